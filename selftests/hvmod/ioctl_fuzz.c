// SPDX-License-Identifier: GPL-2.0
/*
 * ioctl_fuzz SEED COUNT: calls on hvmod's files, by several threads on each CPU, some of them
 * nearly right and some not at all: wrong numbers, files and pointers, memory that goes away, and
 * files that another thread closes. Each round is a process of its own; every other one is killed
 * in the middle. The same seed makes the same choices; how the threads meet is up to the machine.
 *
 * Status 0: all rounds ended. What they left behind is for the caller to look at.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "partition.h"

#define FILES		32
#define THREADS		4
#define ROUND		4000		/* calls of a round */
#define ARENA		(8u << 20)
#define ERRORS		134

static _Atomic int files[FILES];
static uint8_t *arena, *constant, *edge;
static pthread_t threads[THREADS];
static struct shared {
	_Atomic uint64_t calls, good, errors[ERRORS];
} *shared;

static __thread uint64_t state;
static __thread sigjmp_buf fault;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull >> 7;
}

static uint64_t below(uint64_t limit)
{
	return next() % limit;
}

/* One time in `n`. */
static bool rarely(uint64_t n)
{
	return below(n) == 0;
}

/* A number that is somehow interesting. */
static uint64_t odd(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 7, 8, 63, 64, 255, 256, 511, 512, 4095, 4096, 0xfee00, 0xfee00000, 0x7fffffff,
		0x80000000, 0xffffffff, 1ull << 32, 1ull << 36, 1ull << 40, 1ull << 47, 1ull << 52,
		~0ull >> 1, 1ull << 63, ~0ull, ~0xfffull,
	};

	switch (below(4)) {
	case 0:
		return edges[below(sizeof(edges) / sizeof(*edges))];
	case 1:
		return next() >> below(57);
	default:
		return below(32);
	}
}

/* Where something may lie that the kernel reads or writes. */
static void *pointer(size_t size)
{
	switch (below(24)) {
	case 0:
		return NULL;
	case 1:
		return (void *)0xffff888000000000;
	case 2:
		return (void *)0x8000000000000000;
	case 3:
		return constant;
	case 4:
		return edge - below(size + 1);
	case 5:
		return (void *)odd();
	default:
		return arena + (below(64) << 12) + (rarely(4) ? below(4096) : 0);
	}
}

static int file(void)
{
	return rarely(40) ? (int)odd() : files[below(FILES)];
}

static void keep(int fd)
{
	int old;

	if (fd <= 2)
		return;
	old = atomic_exchange(&files[below(FILES)], fd);
	if (old > 2)
		close(old);
}

static void count(long result)
{
	int error = result < 0 ? errno : 0;

	atomic_fetch_add(&shared->calls, 1);
	if (!error)
		atomic_fetch_add(&shared->good, 1);
	else if (error < ERRORS)
		atomic_fetch_add(&shared->errors[error], 1);
}

static int call(int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);

	count(result);
	return result;
}

/* The structure, as it is or with something changed, in a place or another. */
static int with(int fd, unsigned long request, void *structure, size_t size)
{
	uint8_t *at = pointer(size), *bytes = structure;

	if (rarely(6))
		bytes[below(size)] ^= 1 << below(8);
	if (rarely(12) && size >= 8) {
		uint64_t value = odd();

		memcpy(bytes + below(size - 7), &value, 8);
	}
	if (at < arena || at >= arena + ARENA - 4096)
		return call(fd, request, rarely(2) ? at : structure);
	if (!sigsetjmp(fault, 1))
		memcpy(at, structure, size);
	return call(fd, request, at);
}

#define WITH(fd, request, structure) with(fd, request, &(structure), sizeof(structure))

static void create_partition(void)
{
	struct mshv_create_partition create = {
		.pt_flags = rarely(8) ? odd() : 1 << MSHV_PT_BIT_LAPIC | 1 << MSHV_PT_BIT_X2APIC |
						1 << MSHV_PT_BIT_GPA_SUPER_PAGES,
		.pt_isolation = rarely(16) ? odd() : 0,
	};
	int fd = WITH(file(), MSHV_CREATE_PARTITION, create);

	keep(fd);
	if (fd > 2 && !rarely(4))
		call(fd, MSHV_INITIALIZE_PARTITION, rarely(8) ? pointer(8) : NULL);
}

static void create_vp(void)
{
	struct mshv_create_vp vp = { .vp_index = rarely(8) ? odd() : below(4) };

	keep(WITH(file(), MSHV_CREATE_VP, vp));
}

static void set_memory(void)
{
	struct mshv_user_mem_region region = {
		.size = rarely(8) ? odd() : (1 + below(64)) << 12,
		.guest_pfn = rarely(8) ? odd() : below(128),
		.userspace_addr = rarely(8) ? (uintptr_t)pointer(4096) :
					      (uintptr_t)arena + (below(512) << 12),
		.flags = below(8),
	};

	if (rarely(8)) {
		region.size = 2 << 20;
		region.guest_pfn = below(4) << 9;
		region.userspace_addr = (uintptr_t)arena + (below(4) << 21);
	}
	if (!rarely(4)) {
		WITH(file(), MSHV_SET_GUEST_MEMORY, region);
	} else {
		struct hvmod_private_memory private = {
			.guest_pfn = region.guest_pfn, .size = region.size,
			.image = rarely(2) ? region.userspace_addr : 0, .flags = below(4),
		};

		WITH(file(), HVMOD_SET_PRIVATE_MEMORY, private);
	}
}

static void irqfd(void)
{
	struct mshv_user_irqfd irqfd = {
		.fd = file(), .resamplefd = file(), .gsi = rarely(8) ? odd() : below(24),
		.flags = rarely(8) ? odd() : below(4),
	};
	int event = -1;

	if (rarely(2)) {
		event = eventfd(below(2), EFD_NONBLOCK);
		irqfd.fd = event;
	}
	WITH(file(), MSHV_IRQFD, irqfd);
	if (event >= 0) {
		uint64_t one = 1;

		count(write(event, &one, 8));
		keep(event);
	}
}

static void ioeventfd(void)
{
	struct mshv_user_ioeventfd request = {
		.datamatch = odd(), .addr = odd(), .len = rarely(4) ? odd() : 1ull << below(4),
		.fd = file(), .flags = rarely(8) ? odd() : below(8),
	};

	WITH(file(), MSHV_IOEVENTFD, request);
}

static void routing(void)
{
	struct {
		struct mshv_user_irq_table table;
		struct mshv_user_irq_entry entries[8];
	} routing = { .table.nr = rarely(8) ? odd() : below(9) };
	int i;

	for (i = 0; i < 8; i++)
		routing.entries[i] = (struct mshv_user_irq_entry) {
			.gsi = rarely(8) ? odd() : below(24), .data = odd(),
			.address_lo = rarely(4) ? odd() : 0xfee00000 | below(4) << 12,
		};
	WITH(file(), MSHV_SET_MSI_ROUTING, routing);
}

static void access_bitmap(void)
{
	struct mshv_gpap_access_bitmap bitmap = {
		.access_type = below(3), .access_op = below(4),
		.page_count = rarely(8) ? odd() : 1 + below(600),
		.gpap_base = rarely(8) ? odd() : below(128), .bitmap_ptr = (uintptr_t)pointer(80),
	};

	WITH(file(), MSHV_GET_GPAP_ACCESS_BITMAP, bitmap);
}

static void pass_through(void)
{
	static const uint16_t codes[] = {
		HV_GET_PARTITION_PROPERTY, HV_SET_PARTITION_PROPERTY, HV_INSTALL_INTERCEPT,
		HV_GET_VP_REGISTERS, HV_SET_VP_REGISTERS, HV_SET_VP_REGISTERS,
		HV_TRANSLATE_VIRTUAL_ADDRESS, HV_REGISTER_INTERCEPT_RESULT,
		HV_ASSERT_VIRTUAL_INTERRUPT, HV_GET_GPA_ACCESS_STATES, HV_GET_VP_CPUID_VALUES,
		HV_CREATE_PARTITION,
	};
	static const uint32_t names[] = {
		HV_RAX, HV_RSP, HV_RIP, HV_RFLAGS, HV_XMM0, HV_CR0, HV_CR3, HV_CR4, HV_ES, HV_CS,
		HV_SS, HV_LDTR, HV_TR, HV_IDTR, HV_GDTR, HV_EFER, HV_ACTIVITY, HV_TSC, HV_VP_INDEX,
		HV_PROP_SYNTHETIC_FEATURES, HV_PROP_UNIMPLEMENTED_MSR,
	};
	uint8_t *in = arena + (below(64) << 12);
	struct mshv_root_hvcall request = {
		.code = rarely(16) ? odd() : codes[below(sizeof(codes) / sizeof(*codes))],
		.reps = rarely(4) ? odd() : below(3), .in_sz = rarely(4) ? odd() : below(160),
		.out_sz = rarely(4) ? odd() : below(80), .in_ptr = (uintptr_t)in,
		.out_ptr = (uintptr_t)pointer(64),
	};
	int i;

	if (rarely(8))
		request.in_ptr = (uintptr_t)pointer(64);
	if (!sigsetjmp(fault, 1)) {
		for (i = 0; i < 20; i++) {
			uint64_t value = rarely(2) ? 0 : odd();

			if (rarely(4))
				value = names[below(sizeof(names) / sizeof(*names))];
			memcpy(in + 8 * i, &value, 8);
		}
		/* Sizes of lists of registers. */
		if (request.code == HV_GET_VP_REGISTERS || request.code == HV_SET_VP_REGISTERS) {
			bool set = request.code == HV_SET_VP_REGISTERS;
			uint32_t name = names[below(sizeof(names) / sizeof(*names))];

			request.reps = 1;
			request.in_sz = sizeof(struct hv_registers_header) +
					(set ? sizeof(struct hv_assoc) : sizeof(name));
			request.out_sz = set ? 0 : sizeof(union hv_value);
			memset(in, 0, sizeof(struct hv_registers_header));
			*(uint32_t *)(in + 8) = rarely(8) ? odd() : below(2);
			memcpy(in + sizeof(struct hv_registers_header), &name, sizeof(name));
		}
	}
	WITH(file(), MSHV_ROOT_HVCALL, request);
}

static void vp_state(void)
{
	struct mshv_get_set_vp_state request = {
		.type = rarely(8) ? odd() : below(5), .buf_sz = rarely(4) ? odd() : 4096,
		.buf_ptr = (uintptr_t)(rarely(4) ? pointer(4096) : arena + (below(64) << 12)),
	};

	WITH(file(), rarely(2) ? MSHV_SET_VP_STATE : MSHV_GET_VP_STATE, request);
}

static void hvmod_calls(void)
{
	static const unsigned long requests[] = {
		HVMOD_GET_CAPS, HVMOD_GET_INFO, HVMOD_GET_LP_INFO, HVMOD_GET_PARTITION_INFO,
		HVMOD_READ_LOG, HVMOD_GET_VP_INFO, HVMOD_SET_PRIVATE_MEMORY,
	};
	unsigned long request = requests[below(7)];
	static __thread uint64_t words[(1 << _IOC_SIZEBITS) / 8];
	unsigned int i;

	for (i = 0; i < _IOC_SIZE(request) / 8; i++)
		words[i] = rarely(3) ? odd() : below(2);
	if (request == HVMOD_READ_LOG)
		words[offsetof(struct hvmod_read_log, records) / 8] = (uintptr_t)pointer(256);
	with(file(), request, words, _IOC_SIZE(request));
}

/* A number that may mean anything, or nothing. */
static void any_number(void)
{
	static const uint8_t types[] = { MSHV_IOCTL, HVMOD_IOCTL, 0x00, 0x54, 0xae };
	unsigned long request = _IOC(below(4), types[below(5)], below(48),
				     rarely(2) ? odd() & _IOC_SIZEMASK : 8 * below(8));

	/* The terminals' and files' own are not hvmod's; FIOCLEX and the like do no harm. */
	call(file(), rarely(8) ? next() & 0xffffffff : request, pointer(64));
}

static void map_pages(void)
{
	const volatile size_t size = rarely(4) ? 8192 : 4096;
	volatile uint64_t *at = mmap(NULL, size, PROT_READ | (rarely(2) ? PROT_WRITE : 0),
				     rarely(8) ? MAP_PRIVATE : MAP_SHARED, file(), below(4) << 12);

	count(at == MAP_FAILED ? -1 : 0);
	if (at == MAP_FAILED)
		return;
	if (!sigsetjmp(fault, 1)) {
		(void)at[below(512)];
		at[below(512)] = odd();
	}
	munmap((void *)at, size);
}

/* Guest memory is changed under the guest's feet. */
static void change_memory(void)
{
	uint8_t *at = arena + (below(ARENA >> 12) << 12);
	static const uint8_t code[] = { 0xf4, 0xeb, 0xfe, 0xe6, 0x80, 0x0f, 0xa2, 0x0f, 0x30, 0xcc };
	unsigned int i;

	switch (below(4)) {
	case 0:
		/* No longer there, and there again. */
		mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 1:
		madvise(at, 4096, MADV_DONTNEED);
		break;
	default:
		if (!sigsetjmp(fault, 1))
			for (i = 0; i < 64; i++)
				at[below(4096)] = rarely(4) ? next() : code[below(sizeof(code))];
	}
}

static void file_calls(void)
{
	struct pollfd poll_file = { .fd = file(), .events = POLLIN | POLLOUT };
	int fd = file();

	switch (below(5)) {
	case 0:
		count(read(fd > 2 ? fd : -1, arena, 64));
		break;
	case 1:
		count(write(fd > 2 ? fd : -1, arena, 64));
		break;
	case 2:
		count(poll(&poll_file, 1, 0));
		break;
	case 3:
		count(lseek(fd, odd(), SEEK_SET));
		break;
	default:
		fd = dup(fd);
		count(fd);
		keep(fd);
	}
}

static void once(void)
{
	struct mshv_run_vp run;
	int fd;

	switch (below(32)) {
	case 0:
		fd = open(rarely(2) ? "/dev/hvmod" : "/dev/mshv", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		count(fd);
		return keep(fd);
	case 1 ... 2:
		return create_partition();
	case 3 ... 4:
		return create_vp();
	case 5 ... 8:
		return set_memory();
	case 9:
		return irqfd();
	case 10:
		return ioeventfd();
	case 11:
		return routing();
	case 12:
		return access_bitmap();
	case 13 ... 18:
		return pass_through();
	case 19 ... 22:
		call(file(), MSHV_RUN_VP, rarely(8) ? pointer(256) : &run);
		return;
	case 23:
		return vp_state();
	case 24:
		return hvmod_calls();
	case 25 ... 26:
		return any_number();
	case 27:
		return map_pages();
	case 28 ... 29:
		return change_memory();
	case 30:
		return file_calls();
	default:
		fd = atomic_exchange(&files[below(FILES)], -1);
		if (fd > 2)
			count(close(fd));
	}
}

static void on_fault(int number)
{
	siglongjmp(fault, 1);
}

static void on_wake(int number)
{
}

static void *work(void *argument)
{
	long index = (long)argument;
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	CPU_SET(index % sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
	state = (state ? state : 1) * (2 * index + 3);
	for (i = 0; i < ROUND / THREADS; i++)
		once();
	return NULL;
}

static uint64_t round_state;

static void *seeded(void *argument)
{
	state = round_state;
	return work(argument);
}

/* A round: threads that do calls, and this one, which wakes those that wait in one. */
static void play(uint64_t seed)
{
	struct timespec pause = { .tv_nsec = 5000000 };
	struct rlimit limit = { 256, 256 }, no_core = { 0, 0 };
	long i, left = THREADS;

	setrlimit(RLIMIT_NOFILE, &limit);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &(struct sigaction) { .sa_handler = on_wake }, NULL);
	arena = some_memory(ARENA);
	constant = some_memory(4096);
	mprotect(constant, 4096, PROT_READ);
	edge = (uint8_t *)some_memory(8192) + 4096;
	munmap(edge, 4096);
	for (i = 0; i < FILES; i++)
		files[i] = i < 6 ? open(i & 1 ? "/dev/hvmod" : "/dev/mshv", O_RDWR | O_CLOEXEC) : -1;
	round_state = seed * 0x9e3779b97f4a7c15ull | 1;
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, seeded, (void *)i);
	while (left) {
		nanosleep(&pause, NULL);
		for (i = 0; i < THREADS; i++) {
			if (!threads[i])
				continue;
			if (pthread_tryjoin_np(threads[i], NULL) == 0) {
				threads[i] = 0;
				left--;
			} else {
				pthread_kill(threads[i], SIGUSR1);
			}
		}
	}
	_exit(0);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* What a process waits for that cannot be killed. */
static void tell(pid_t pid)
{
	char command[200];

	snprintf(command, sizeof(command),
		 "for t in /proc/%d/task/*; do echo \"# $t\"; sed 's/^/# /' $t/status $t/stack | "
		 "grep -E 'State|\\+0x'; done", pid);
	if (system(command))
		tap_note("nothing is known of process %d", pid);
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
		kill_at = now() + (seed + number) * 7919 % 400 * 1000000ull;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		usleep(1000);
		if (now() > kill_at)
			kill(pid, SIGKILL);
		if (now() > limit) {
			tell(pid);
			kill(pid, SIGKILL);
			return tap(false, "round %llu ends", (unsigned long long)number);
		}
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		tap_note("round %llu ended by signal %d", (unsigned long long)number, WTERMSIG(status));
	return true;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
	uint64_t number = 0;
	int error;

	shared = some_memory(sizeof(*shared));
	while (shared->calls < wanted)
		if (!one_round(seed, number++))
			break;
	printf("# seed %llu: %llu calls in %llu rounds, %llu of them good\n",
	       (unsigned long long)seed, (unsigned long long)shared->calls,
	       (unsigned long long)number, (unsigned long long)shared->good);
	for (error = 1; error < ERRORS; error++)
		if (shared->errors[error])
			printf("# %s %llu\n", strerrorname_np(error),
			       (unsigned long long)shared->errors[error]);
	return shared->calls < wanted;
}
