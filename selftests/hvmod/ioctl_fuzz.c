// SPDX-License-Identifier: GPL-2.0
/*
 * ioctl_fuzz SEED COUNT: calls on hvmod's files, by several threads on each CPU. Most are right:
 * partitions are made, given memory, run, interrupted (ioctl_fuzz_model.h); some have something
 * wrong in them (ioctl_fuzz.h); some are nonsense from the beginning, below. Meanwhile memory goes
 * away, and files that one thread uses are closed by another. Each round is a process of its own,
 * with a child that has the same files and memory; every other one is killed in the middle.
 *
 * Status 0: all rounds ended, each call that can succeed did, and SUCCESS percent of all. What the
 * rounds left behind is for the caller to look at. How the threads meet is up to the machine.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "ioctl_fuzz_model.h"

#define THREADS		4
#define ROUND		6000		/* calls of a round, about */
#define SUCCESS		40

static pthread_t threads[THREADS];

static void keep(int fd)
{
	if (fd > 2)
		close_file(atomic_exchange(&files[below(FILES)], fd));
}

static void any_hypercall(int fd)
{
	static const uint16_t codes[] = {
		HV_GET_PARTITION_PROPERTY, HV_SET_PARTITION_PROPERTY, HV_INSTALL_INTERCEPT,
		HV_GET_VP_REGISTERS, HV_SET_VP_REGISTERS, HV_TRANSLATE_VIRTUAL_ADDRESS,
		HV_REGISTER_INTERCEPT_RESULT, HV_ASSERT_VIRTUAL_INTERRUPT, HV_GET_GPA_ACCESS_STATES,
		HV_GET_VP_CPUID_VALUES, HV_CREATE_PARTITION, HV_CLEAR_VIRTUAL_INTERRUPT, HV_SIGNAL_EVENT,
		HV_POST_MESSAGE,
	};
	uint64_t in[20];
	int i;

	for (i = 0; i < 20; i++)
		in[i] = rarely(2) ? 0 : odd();
	HVCALL(ANY_HVCALL, fd, rarely(8) ? odd() : ONE_OF(codes), below(3), in, 8 * (1 + below(20)), NULL,
	       8 * below(20));
}

static void device_calls(void)
{
	struct {
		uint64_t partition, code;
	} property = { .code = 0x00060000 };
	struct hvmod_caps caps = { 0 };
	struct hvmod_info info = { 0 };
	struct hvmod_lp_info lp = { .index = below(sysconf(_SC_NPROCESSORS_ONLN)) };
	struct hvmod_partition_info partition = { .id = below(4) };
	struct hvmod_vp_info vp = { 0 };
	struct hvmod_read_log log = { .records = (uintptr_t)page(), .count = below(30), .seq = below(100) };

	switch (below(7)) {
	case 0:
		WITH(CAPS, device, HVMOD_GET_CAPS, caps);
		break;
	case 1:
		WITH(INFO, device, HVMOD_GET_INFO, info);
		break;
	case 2:
		WITH(LP_INFO, device, HVMOD_GET_LP_INFO, lp);
		break;
	case 3:
		WITH(READ_LOG, device, HVMOD_READ_LOG, log);
		break;
	case 4:
		HVCALL(ROOT_PROPERTY, device, HV_GET_PARTITION_PROPERTY, 0, &property, 16, NULL, 8);
		break;
	default:
		if (WITH(PARTITION_INFO, device, HVMOD_GET_PARTITION_INFO, partition))
			break;
		vp.partition = partition.id;
		WITH(VP_INFO, device, HVMOD_GET_VP_INFO, vp);
	}
}

/* A number that may mean anything, or nothing. */
static void any_number(void)
{
	static const uint8_t types[] = { MSHV_IOCTL, HVMOD_IOCTL, 0x00, 0x54, 0xae };
	unsigned long request = _IOC(below(4), ONE_OF(types), below(48),
				     rarely(2) ? odd() & _IOC_SIZEMASK : 8 * below(8));
	struct slot *slot = &slots[below(SLOTS)];
	int fd = rarely(3) ? any_file() : rarely(2) ? slot->fd : slot->vps[below(VPS)];

	/* The terminals' and files' own are not hvmod's; FIOCLEX and the like do no harm. */
	call(ROW_ANY_IOCTL, fd, rarely(8) ? next() & 0xffffffff : request, place(64));
}

static void map_pages(int fd)
{
	const volatile size_t size = rarely(16) ? 8192 : 4096;
	volatile uint64_t *at = mmap(NULL, size, PROT_READ | (rarely(2) ? PROT_WRITE : 0),
				     rarely(16) ? MAP_PRIVATE : MAP_SHARED, rarely(16) ? any_file() : fd,
				     (rarely(16) ? below(4) : below(2)) << 12);

	count(ROW_MMAP, at == MAP_FAILED ? -1 : 0);
	if (at == MAP_FAILED)
		return;
	if (!sigsetjmp(fault, 1)) {
		(void)at[below(512)];
		at[below(512)] = odd();
	}
	munmap((void *)at, size);
}

/* Guest memory is changed under the guest's feet. */
static void change_memory(struct slot *slot)
{
	uint8_t *at = arena + (below(ARENA >> 12) << 12);

	switch (below(6)) {
	case 0:
		/* No longer there, and there again. */
		mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 1:
		madvise(at, 4096, MADV_DONTNEED);
		break;
	default:
		write_code(memory_of(slot) + CODE + (below(4) << 9), 1 << 9);
	}
}

static void file_calls(void)
{
	struct pollfd poll_file = { .fd = any_file(), .events = POLLIN | POLLOUT };
	int fd = rarely(2) ? any_file() : slots[below(SLOTS)].fd;

	switch (below(6)) {
	case 0:
		count(ROW_FILE_CALL, read(fd > 2 ? fd : -1, page(), 64));
		break;
	case 1:
		count(ROW_FILE_CALL, write(fd > 2 ? fd : -1, page(), 64));
		break;
	case 2:
		count(ROW_FILE_CALL, poll(&poll_file, 1, 0));
		break;
	case 3:
		count(ROW_FILE_CALL, lseek(fd, odd(), SEEK_SET));
		break;
	case 4:
		fd = open(rarely(2) ? "/dev/hvmod" : "/dev/mshv", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		count(ROW_OPEN, fd);
		keep(fd);
		break;
	default:
		fd = dup(fd);
		count(ROW_FILE_CALL, fd);
		keep(fd);
	}
}

/* A file goes while others use it; what it was is made anew when it is wanted. */
static void close_one(struct slot *slot)
{
	int number = below(EVENTS);

	switch (below(8)) {
	case 0:
		close_file(atomic_exchange(&slot->vps[below(VPS)], -1));
		break;
	case 1:
		close_file(atomic_exchange(&slot->events[number], eventfd(0, EFD_NONBLOCK)));
		slot->irq[number] = FREE;
		break;
	case 2:
		close_file(atomic_exchange(&slot->bell, eventfd(0, EFD_NONBLOCK)));
		break;
	case 3:
		close_file(atomic_exchange(&device, open("/dev/mshv", O_RDWR | O_CLOEXEC)));
		break;
	default:
		close_file(atomic_exchange(&files[below(FILES)], -1));
	}
}

static void once(void)
{
	struct slot *slot = &slots[below(SLOTS)];
	uint32_t index = rarely(3) ? below(VPS) : 0;
	int fd = slot->vps[index];

	if (slot->fd < 0 || rarely(300))
		return make_partition(slot);
	if (fd < 0)
		return make_vp(slot, index);
	switch (below(32)) {
	case 0 ... 3:
		return change_region(slot, rarely(30) ? 0 : 1 + below(REGIONS - 1));
	case 4 ... 5:
		return change_irqfd(slot);
	case 6 ... 7:
		return signal_event(slot);
	case 8:
		return change_bell(slot);
	case 9:
		return set_routing(slot);
	case 10:
		return access_bitmap(slot);
	case 11 ... 17:
		return run_vp(fd, index);
	case 18 ... 19:
		return some_registers(rarely(2) ? fd : slot->fd, index);
	case 20:
		return rarely(2) && (slot->synic || rarely(4)) ? synic_calls(slot, fd, index) : vp_state(fd);
	case 21 ... 22:
		return hypercalls(rarely(2) ? fd : slot->fd, index);
	case 23 ... 24:
		return change_unit(slot);
	case 25:
		return any_hypercall(rarely(2) ? fd : slot->fd);
	case 26:
		return device_calls();
	case 27:
		return rarely(2) ? any_number() : map_pages(fd);
	case 28:
		return change_memory(slot);
	case 29:
		return file_calls();
	case 30:
		return rarely(2) ? (void)start_vp(fd, index) : close_one(slot);
	default:
		if (rarely(2))
			return freeze(slot->fd);
		set_property(slot->fd, rarely(8) ? odd() : HV_PROP_UNIMPLEMENTED_MSR, below(2));
	}
}

static void on_fault(int number)
{
	siglongjmp(fault, 1);
}

static void on_wake(int number)
{
}

static uint64_t round_state;
static _Atomic long left;

static void *work(void *argument)
{
	long index = (long)argument;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(index % sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
	state = round_state * (2 * index + 3) | 1;
	while (atomic_fetch_sub(&left, 1) > 0)
		once();
	return NULL;
}

/* Threads that do calls, and this one, which wakes those that wait in one. */
static void threads_play(long first, long number, uint64_t seed, long calls)
{
	struct timespec pause = { .tv_nsec = 5000000 };
	long i, running = number;

	round_state = seed * 0x9e3779b97f4a7c15ull | 1;
	left = calls;
	for (i = 0; i < number; i++)
		pthread_create(&threads[i], NULL, work, (void *)(first + i));
	while (running) {
		nanosleep(&pause, NULL);
		for (i = 0; i < number; i++) {
			if (!threads[i])
				continue;
			if (pthread_tryjoin_np(threads[i], NULL) == 0) {
				threads[i] = 0;
				running--;
			} else {
				pthread_kill(threads[i], SIGUSR1);
			}
		}
	}
}

static void play(uint64_t seed)
{
	struct rlimit limit = { 256, 256 }, no_core = { 0, 0 };
	long i;

	setrlimit(RLIMIT_NOFILE, &limit);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &(struct sigaction) { .sa_handler = on_wake }, NULL);
	/* What the kernel writes past its end must not hit the account. */
	arena = some_memory(ARENA + GUARD);
	mprotect(arena + ARENA, GUARD, PROT_NONE);
	units = mmap(NULL, SLOTS * HVMOD_DISCARD_UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	constant = some_memory(4096);
	mprotect(constant, 4096, PROT_READ);
	edge = (uint8_t *)some_memory(8192) + 4096;
	munmap(edge, 4096);
	for (i = 0; i < FILES; i++)
		files[i] = i < 4 ? open(i & 1 ? "/dev/hvmod" : "/dev/mshv", O_RDWR | O_CLOEXEC) : -1;
	device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	state = seed * 2 + 1;
	for (i = 0; i < SLOTS; i++) {
		slots[i].fd = slots[i].bell = -1;
		memset(slots[i].vps, -1, sizeof(slots[i].vps));
		memset(slots[i].events, -1, sizeof(slots[i].events));
		make_partition(&slots[i]);
	}
	/* Another process with the same files, of which neither knows what the other closes. */
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		threads_play(THREADS, 1, seed ^ 0x5555, ROUND / 6);
		_exit(0);
	}
	threads_play(0, THREADS, seed, ROUND / 3);
	_exit(0);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* What processes wait for that do not end, and what the CPUs do. */
static void tell(void)
{
	static const char command[] =
		"for t in $(pidof ioctl_fuzz | sed 's,[0-9]*,/proc/&/task/*,g'); do echo \"# $t\"; "
		"sed 's/^/# /' $t/status $t/stack | grep -E 'State|\\+0x'; done; "
		"echo l >/proc/sysrq-trigger; sleep 1; dmesg | tail -n 90 | sed 's/^/# /'";

	fflush(stdout);
	if (system(command))
		tap_note("nothing is known of them");
}

/* One round to its end. False if it does not end. */
static bool one_round(uint64_t seed, uint64_t number)
{
	uint64_t limit = now() + 120 * 1000000000ull, kill_at = ~0ull;
	pid_t pid = fork();
	int status;

	if (!pid)
		play(seed + number);
	if (pid < 0)
		tap_bail_out("fork: %s", strerror(errno));
	if (number % 2)
		kill_at = now() + (seed + number) * 7919 % 1000 * 1000000ull;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		usleep(1000);
		if (now() > kill_at)
			kill(pid, SIGKILL);
		if (now() > limit) {
			tell();
			kill(pid, SIGKILL);
			return tap(false, "round %llu ends", (unsigned long long)number);
		}
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		return tap(false, "round %llu ended by signal %d", (unsigned long long)number, WTERMSIG(status));
	return true;
}

/* What became of each call; false if one that can succeed never did. */
static bool tell_all(void)
{
	static const struct {
		const char *name;
		uint64_t needed;	/* 0: it may always fail */
	} rows[] = {
#define ROW(name, text, needed) { text, needed },
		ROWS(ROW)
#undef ROW
	};
	bool all = true;
	int i, error;

	printf("# %-38s %8s %8s  errors\n", "call", "calls", "good");
	for (i = 0; i < ROW_COUNT; i++) {
		printf("# %-38s %8llu %8llu ", rows[i].name, (unsigned long long)shared->rows[i].calls,
		       (unsigned long long)shared->rows[i].good);
		for (error = 1; error < ERRORS; error++)
			if (shared->rows[i].errors[error])
				printf(" %s %llu", strerrorname_np(error),
				       (unsigned long long)shared->rows[i].errors[error]);
		printf("\n");
	}
	for (i = 0; i < ROW_COUNT; i++) {
		if (rows[i].needed && shared->calls >= rows[i].needed && !shared->rows[i].good) {
			printf("# never succeeded: %s\n", rows[i].name);
			all = false;
		}
	}
	return all;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
	uint64_t number = 0, percent, begin = now();
	bool all;

	shared = some_memory(sizeof(*shared));
	while (shared->calls < wanted)
		if (!one_round(seed, number++))
			break;
	all = tell_all();
	percent = shared->good * 100 / (shared->calls ? shared->calls : 1);
	printf("# seed %llu: %llu calls in %llu rounds, %llu of them good (%llu percent), %llu ms\n",
	       (unsigned long long)seed, (unsigned long long)shared->calls,
	       (unsigned long long)number, (unsigned long long)shared->good,
	       (unsigned long long)percent, (unsigned long long)(now() - begin) / 1000000);
	if (percent < SUCCESS)
		printf("# less than %d percent of the calls succeeded\n", SUCCESS);
	return shared->calls < wanted || !all || percent < SUCCESS;
}
