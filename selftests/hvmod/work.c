// SPDX-License-Identifier: GPL-2.0
/*
 * Work on every CPU at once: computation, memory, the disk, timers, signals between
 * processes, floating point. Each checks its own result. Status 0: all was right.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEMORY	(1 << 20)
#define DISK	(64 << 10)

static int cpu;

static void fail(const char *what)
{
	printf("CPU %d: %s\n", cpu, what);
	fflush(stdout);
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint32_t next(uint32_t x)
{
	x ^= x << 13;
	x ^= x >> 17;
	return x ^ x << 5;
}

/* The last of these numbers is known; the loop takes no memory. */
static void compute(void)
{
	uint32_t x = 1, i;
	double sum = 0;

	for (i = 0; i < 300000; i++)
		x = next(x);
	if (x != 0x5cc39bb0u)
		fail("computed wrongly");
	for (i = 1; i <= 5000; i++)
		sum += 1.0 / ((double)i * i);
	if (fabs(sum - M_PI * M_PI / 6) > 3e-4)
		fail("floating point is wrong");
}

static void memory(void)
{
	size_t words = MEMORY / sizeof(uint32_t), i;
	uint32_t *area = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t x = cpu + 1;

	if (area == MAP_FAILED)
		fail("no memory");
	for (i = 0; i < words; i++)
		area[i] = x = next(x);
	for (i = 0, x = cpu + 1; i < words; i++)
		if (area[i] != (x = next(x)))
			fail("memory does not hold what was written");
	munmap(area, MEMORY);
}

static void disk(void)
{
	static uint8_t data[DISK], back[DISK];
	char name[64];
	uint32_t x = cpu + 77, i;
	int file;

	for (i = 0; i < DISK; i++)
		data[i] = x = next(x);
	snprintf(name, sizeof(name), "work.%d.%d", cpu, getpid());
	file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || write(file, data, DISK) != DISK || fsync(file))
		fail("cannot write to the disk");
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	if (pread(file, back, DISK, 0) != DISK || memcmp(data, back, DISK))
		fail("the disk does not hold what was written");
	close(file);
	unlink(name);
}

static void timers(void)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	struct itimerspec every = { { .tv_nsec = 1000000 }, { .tv_nsec = 1000000 } };
	uint64_t before = now(), expirations, seen = 0, last;
	int i, timer;

	for (i = 0; i < 5; i++)
		if (nanosleep(&pause, NULL))
			fail("nanosleep failed");
	if (now() - before < 5 * 2000000ull)
		fail("slept too short");
	if (now() - before > 20000000000ull)
		fail("slept more than 20 s instead of 10 ms");
	timer = timerfd_create(CLOCK_MONOTONIC, 0);
	if (timer < 0 || timerfd_settime(timer, 0, &every, NULL))
		fail("no timer");
	while (seen < 5) {
		if (read(timer, &expirations, sizeof(expirations)) != sizeof(expirations))
			fail("the timer does not expire");
		seen += expirations;
	}
	close(timer);
	for (i = 0, last = now(); i < 2000; i++) {
		uint64_t time = now();

		if (time < last)
			fail("time goes back");
		last = time;
	}
}

/* IPIs: two processes wake each other by pipes, on neighbouring CPUs where there are. */
static void wake(int cpus)
{
	int to[2], from[2], i;
	pid_t other;
	char c = 0;

	if (pipe(to) || pipe(from))
		fail("no pipe");
	other = fork();
	if (other == 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((cpu + 1) % cpus, &set);
		sched_setaffinity(0, sizeof(set), &set);
		for (i = 0; i < 100; i++)
			if (read(to[0], &c, 1) != 1 || write(from[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < 100; i++)
		if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
			fail("the other process does not answer");
	waitpid(other, &i, 0);
	if (i)
		fail("the other process failed");
}

int main(void)
{
	int cpus = 0, failed = 0, status;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (!sched_setaffinity(0, sizeof(set), &set))
			cpus = cpu + 1;
	}
	for (cpu = 0; cpu < cpus; cpu++) {
		if (fork() == 0) {
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET(cpu, &set);
			if (sched_setaffinity(0, sizeof(set), &set))
				_exit(0);
			alarm(120);
			compute();
			memory();
			disk();
			timers();
			wake(cpus);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	if (!failed)
		printf("%d CPUs worked\n", cpus);
	return failed;
}
