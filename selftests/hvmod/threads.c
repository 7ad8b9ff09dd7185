// SPDX-License-Identifier: GPL-2.0
/*
 * threads [ROUNDS]: a thread on each CPU, all of one address space. In each round one
 * makes a page read-only that all have written, and then nobody may write it any more,
 * whatever its TLB remembers; and the clocks of all must agree. Status 0: all was right.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX	64
#define PAGE	4096

static int count, rounds = 100;
static pthread_barrier_t barrier;
static volatile int *page;
static volatile uint64_t clocks[MAX];
static __thread sigjmp_buf refused;

static void fail(int cpu, const char *what)
{
	printf("CPU %d: %s\n", cpu, what);
	fflush(stdout);
	_exit(1);
}

static void on_fault(int number)
{
	siglongjmp(refused, 1);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void wait_for_all(void)
{
	pthread_barrier_wait(&barrier);
}

static void round_of(int me, int round)
{
	int leader = round % count;
	uint64_t before;

	if (me == leader) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			fail(me, "no memory");
	}
	wait_for_all();
	page[me] = round + 1;
	before = now();
	wait_for_all();
	if (me == leader && mprotect((void *)page, PAGE, PROT_READ))
		fail(me, "mprotect");
	clocks[me] = now();
	wait_for_all();
	if (clocks[(me + 1) % count] < before)
		fail(me, "the next one's clock is behind mine");
	if (page[(me + 1) % count] != round + 1)
		fail(me, "what the next one wrote is not there");
	if (!sigsetjmp(refused, 1)) {
		page[me] = 0;
		fail(me, "a page that is read-only was written");
	}
	wait_for_all();
	if (me == leader)
		munmap((void *)page, PAGE);
}

static void *run(void *argument)
{
	int me = (int)(long)argument, round;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(me, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail(me, "cannot run there");
	for (round = 0; round < rounds; round++)
		round_of(me, round);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_fault };
	pthread_t threads[MAX];
	long i;

	if (argc > 1)
		rounds = atoi(argv[1]);
	count = sysconf(_SC_NPROCESSORS_ONLN);
	if (count > MAX)
		count = MAX;
	sigaction(SIGSEGV, &action, NULL);
	pthread_barrier_init(&barrier, NULL, count);
	for (i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, run, (void *)i))
			fail(i, "no thread");
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
