// SPDX-License-Identifier: GPL-2.0
/*
 * A partition in several hands: descriptors that a child inherits, an owner that dies,
 * memory that its program gives up, threads that call at the same time.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "partition.h"

/* Says what it reads at 4 MiB, again and again. */
GUEST_CODE(64, reader,
	"mov $0x400000, %ebx\n"
	"1: mov (%rbx), %eax\n"
	"outb %al, $0x10\n"
	"jmp 1b\n");

GUEST_CODE(64, sleeper, "cli\n1: hlt\njmp 1b\n");
GUEST_CODE(64, talker, "outb %al, $0x10\nhlt\n");
GUEST_CODE(64, spinner, "1: jmp 1b\n");

#define EXTRA		0x400000

/* Whether the VP says `value` next. */
static bool says(struct partition *p, int value)
{
	if (run(p) || p->message.type != HV_MSG_IO_PORT)
		return false;
	skip_instruction(p);
	return (p->message.port.rax & 0xff) == (uint64_t)value;
}

static bool status_is_zero(pid_t child)
{
	int status;

	return waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void inherited(void)
{
	struct partition p;
	uint8_t *extra;
	pid_t child;

	partition_open(&p);
	tap(fcntl(p.fd, F_GETFD) == FD_CLOEXEC && fcntl(p.vp, F_GETFD) == FD_CLOEXEC,
	    "a partition and a VP are closed on exec");
	start_long(&p, reader, reader_end);
	extra = some_memory(PAGE);
	extra[0] = 11;
	tap(!map(&p, EXTRA, extra, PAGE, WRITABLE), "memory of this program is mapped");
	child = fork();
	if (!child) {
		uint8_t *own = some_memory(PAGE);
		struct mshv_user_mem_region region = {
			.size = PAGE, .guest_pfn = EXTRA / PAGE, .userspace_addr = (uintptr_t)extra,
			.flags = UNMAP,
		};
		bool ran = says(&p, 11);

		own[0] = 22;
		/* Of its own memory now, which goes with it. */
		_exit(!(ran && !ioctl(p.fd, MSHV_SET_GUEST_MEMORY, &region) &&
			!map(&p, EXTRA, own, PAGE, WRITABLE)));
	}
	tap(status_is_zero(child), "a child runs the VP by the descriptors that it inherited");
	tap(says(&p, 22), "memory that it gave outlives it");
	munmap(p.memory, MEMORY_SIZE);
	tap(says(&p, 22), "memory that this program gave up stays the partition's");
	p.memory = some_memory(MEMORY_SIZE);
	close(p.fd);
	tap(says(&p, 22), "a VP runs when the partition's descriptor is closed");
	munmap(extra, PAGE);
	partition_close(&p);
}

static void owner_dies(void)
{
	struct hvmod_partition_info info = { 0 };
	struct partition p;
	int ends[2], device;
	pid_t owner, heir;


	if (pipe(ends))
		tap_bail_out("pipe: %s", strerror(errno));
	owner = fork();
	if (!owner) {
		partition_open(&p);
		start_long(&p, spinner, spinner_end);
		heir = fork();
		if (!heir) {
			/* It asks for nothing: it only keeps the descriptors. */
			pause();
			_exit(0);
		}
		if (write(ends[1], &heir, sizeof(heir)) != sizeof(heir))
			_exit(1);
		run(&p);
		_exit(0);
	}
	if (read(ends[0], &heir, sizeof(heir)) != sizeof(heir))
		tap_bail_out("no heir");
	usleep(100000);
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	device = open("/dev/hvmod", O_RDWR | O_CLOEXEC);
	tap(!ioctl(device, HVMOD_GET_PARTITION_INFO, &info) && info.vps == 1,
	    "a partition outlives its owner while somebody has its descriptors");
	tap(!info.owner || kill(info.owner, 0), "  and names no process that lives as its owner");
	kill(heir, SIGKILL);
	for (int tries = 0; tries < 100; tries++) {
		info = (struct hvmod_partition_info){ 0 };
		if (ioctl(device, HVMOD_GET_PARTITION_INFO, &info) && errno == ENOENT)
			break;
		usleep(50000);
	}
	tap(errno == ENOENT, "it is gone with the last of them");
	close(device);
	close(ends[0]);
	close(ends[1]);

}

static volatile bool over;

/* Two threads in RUN_VP on one VP, a third that stops them. */
static void *runs(void *argument)
{
	struct partition *p = argument;
	struct hv_message message;

	while (!over)
		ioctl(p->vp, MSHV_RUN_VP, &message);
	return NULL;
}

static void *disturbs(void *argument)
{
	struct partition *p = argument;
	uint8_t *extra = some_memory(16 * PAGE), *state = some_memory(4 * PAGE);
	unsigned int seed = (uintptr_t)&seed;
	int event = eventfd(0, EFD_NONBLOCK);

	while (!over) {
		struct mshv_get_set_vp_state get = { .type = rand_r(&seed) % 2, .buf_sz = 4 * PAGE,
						     .buf_ptr = (uintptr_t)state };
		struct mshv_user_irqfd irqfd = { .fd = event, .gsi = 1, .flags = rand_r(&seed) & 2 };
		struct mshv_create_vp vp = { 0 };
		struct hv_registers_header header = { 0 };
		struct hvmod_partition_info info = { 0 };
		struct mshv_root_hvcall call = {
			.code = HV_GET_VP_REGISTERS, .reps = 1, .in_sz = 8,
			.in_ptr = (uintptr_t)&header, .rsvd = { 0 },
		};
		uint64_t at = EXTRA + rand_r(&seed) % 4 * 16 * PAGE;

		switch (rand_r(&seed) % 8) {
		case 0: map(p, at, extra, 16 * PAGE, WRITABLE); break;
		case 1: map(p, at, extra, 16 * PAGE, UNMAP); break;
		case 2: ioctl(p->vp, MSHV_GET_VP_STATE, &get); break;
		case 3: ioctl(p->fd, MSHV_IRQFD, &irqfd); break;
		case 4: ioctl(p->fd, MSHV_CREATE_VP, &vp); break;
		case 5: ioctl(p->fd, MSHV_ROOT_HVCALL, &call); break;
		case 6: ioctl(p->device, HVMOD_GET_PARTITION_INFO, &info); break;
		case 7: try_set_registers(p, &(struct hv_assoc)PLAIN(HV_RAX, 7), 1); break;
		}
	}
	close(event);
	munmap(extra, 16 * PAGE);
	munmap(state, 4 * PAGE);
	return NULL;
}

static void nothing(int signal)
{
}

static void threads(void)
{
	struct sigaction action = { .sa_handler = nothing };
	struct partition p;
	pthread_t runners[2], others[3];
	int i, seconds = getenv("SOAK") && *getenv("SOAK") ? 120 : 3;
	struct timespec begin, now;

	sigaction(SIGUSR1, &action, NULL);
	partition_open(&p);
	start_long(&p, spinner, spinner_end);
	over = false;
	for (i = 0; i < 2; i++)
		pthread_create(&runners[i], NULL, runs, &p);
	for (i = 0; i < 3; i++)
		pthread_create(&others[i], NULL, disturbs, &p);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		/* GET_VP_STATE waits for RUN_VP to return. */
		for (i = 0; i < 2; i++)
			pthread_kill(runners[i], SIGUSR1);
		usleep(20000);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < seconds);
	over = true;
	for (i = 0; i < 3; i++) {
		while (pthread_tryjoin_np(others[i], NULL)) {
			pthread_kill(runners[0], SIGUSR1);
			pthread_kill(runners[1], SIGUSR1);
			usleep(1000);
		}
	}
	for (i = 0; i < 2; i++) {
		while (pthread_tryjoin_np(runners[i], NULL)) {
			pthread_kill(runners[i], SIGUSR1);
			usleep(1000);
		}
	}
	tap(true, "threads call at the same time, and all come back");
	map(&p, EXTRA, NULL, 16 * PAGE, UNMAP);
	partition_close(&p);
	partition_open(&p);
	start_long(&p, reader, reader_end);
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "and a new partition runs after that"))
		tap_equal("  and asks for what it has not", p.message.memory.gpa, EXTRA);
	partition_close(&p);
}

/* A thread in RUN_VP, whose VP sleeps or spins, is killed with its process. */
static void killed(const uint8_t *code, const uint8_t *end, const char *name)
{
	struct partition p;
	pid_t child = fork();

	if (!child) {
		partition_open(&p);
		start_long(&p, code, end);
		run(&p);
		_exit(0);
	}
	usleep(300000);
	kill(child, SIGKILL);
	tap(waitpid(child, NULL, 0) == child, "%s", name);
}

static void locked_memory(void)
{
	struct rlimit limit = { 16 * PAGE, 16 * PAGE };
	pid_t child;
	struct partition p;

	partition_open(&p);
	child = fork();
	if (!child) {
		struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct data[2] = { 0 };
		uint8_t *memory = some_memory(64 * PAGE);
		bool right;

		setrlimit(RLIMIT_MEMLOCK, &limit);
		if (syscall(SYS_capset, &header, data))
			_exit(2);
		right = map(&p, EXTRA, memory, 32 * PAGE, WRITABLE) && errno == ENOMEM;
		right = right && !map(&p, EXTRA, memory, 16 * PAGE, WRITABLE);
		right = right && map(&p, 2 * EXTRA, memory + 32 * PAGE, PAGE, WRITABLE) && errno == ENOMEM;
		right = right && !map(&p, EXTRA, memory, 16 * PAGE, UNMAP);
		right = right && !map(&p, 2 * EXTRA, memory, 16 * PAGE, WRITABLE);
		_exit(!right);
	}
	tap(status_is_zero(child), "without CAP_IPC_LOCK no more memory than RLIMIT_MEMLOCK: ENOMEM");
	partition_close(&p);
}

/* Address space costs nothing; to pin it would. */
static void more_than_there_is(void)
{
	size_t size = 1ull << 40;
	void *space = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct partition p;

	if (space == MAP_FAILED)
		tap_bail_out("no address space");
	partition_open(&p);
	tap(map(&p, 1ull << 32, space, size, WRITABLE) && errno == ENOMEM, "a region of 1 TiB: ENOMEM");
	tap(map(&p, 1ull << 32, space, 1ull << 36, WRITABLE) && errno == ENOMEM, "a region of 64 GiB: ENOMEM");
	munmap(space, size);
	space = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	tap(map(&p, 1ull << 32, space, PAGE, WRITABLE) && errno == EFAULT, "a region that may not be written: EFAULT");
	tap(map(&p, 1ull << 32, space, 2 * PAGE, WRITABLE) && errno == EFAULT, "a region with nothing behind it: EFAULT");
	munmap(space, PAGE);
	partition_close(&p);
}

static void mappings(void)
{
	struct partition p;
	uint8_t *page;
	size_t i;

	partition_open(&p);
	start_long(&p, reader, reader_end);
	for (i = 0; i < 2; i++) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, i ? MAP_PRIVATE : MAP_SHARED, p.vp, 0);
		tap(page != MAP_FAILED, "the register page is mapped %s", i ? "privately" : "shared");
		memset(page, 0xff, PAGE);
		/* Nonsense there is refused, or ignored, and harms nobody. */
		run(&p);
		munmap(page, PAGE);
		partition_close(&p);
		partition_open(&p);
		start_long(&p, reader, reader_end);
	}
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p.vp, PAGE);
	tap(page != MAP_FAILED, "the page of messages is mapped");
	memset(page, 0xff, PAGE);
	run(&p);
	tap(!memcmp(page, &p.message, 16), "  and has what RUN_VP said, whatever was written there");
	close(p.vp);
	close(p.fd);
	tap(((volatile uint8_t *)page)[0] == ((uint8_t *)&p.message)[0], "  and outlives the descriptors");
	munmap(page, PAGE);
	p.vp = p.fd = -1;
	partition_close(&p);
}

/* RUN_VP has nowhere to write its message until `answered`, or the time is up. */
struct stuck {
	struct partition *p;
	void *page;
	int faults;
	volatile bool ran, answered, over;
};

static void *run_stuck(void *argument)
{
	struct stuck *stuck = argument;

	stuck->ran = !ioctl(stuck->p->vp, MSHV_RUN_VP, stuck->page);
	return NULL;
}

static void *resolve(void *argument)
{
	struct stuck *stuck = argument;
	struct uffdio_zeropage zero = { .range = { (uintptr_t)stuck->page, PAGE } };
	int tenths;

	for (tenths = 0; tenths < 100 && !stuck->answered; tenths++)
		usleep(100000);
	stuck->over = true;
	ioctl(stuck->faults, UFFDIO_ZEROPAGE, &zero);
	return NULL;
}

/* What a call waits for is not for those to wait for who ask about the partition. */
static void waits_for_memory(void)
{
	struct hvmod_partition_info partition = { 0 };
	struct uffdio_register registration;
	struct uffdio_api api = { .api = UFFD_API };
	struct hvmod_vp_info vp = { 0 };
	pthread_t runner, resolver;
	struct uffd_msg message;
	struct partition p;
	struct stuck stuck = { .p = &p };
	bool answered;

	stuck.faults = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (stuck.faults < 0) {
		tap(true, "who asks does not wait # SKIP userfaultfd: %s", strerror(errno));
		return;
	}
	partition_open(&p);
	start_long(&p, talker, talker_end);
	stuck.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	registration = (struct uffdio_register){
		.range = { (uintptr_t)stuck.page, PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	if (ioctl(stuck.faults, UFFDIO_API, &api) ||
	    ioctl(stuck.faults, UFFDIO_REGISTER, &registration))
		tap_bail_out("userfaultfd: %s", strerror(errno));
	pthread_create(&runner, NULL, run_stuck, &stuck);
	if (read(stuck.faults, &message, sizeof(message)) != sizeof(message))
		tap_bail_out("userfaultfd: %s", strerror(errno));
	pthread_create(&resolver, NULL, resolve, &stuck);
	answered = !ioctl(p.device, HVMOD_GET_PARTITION_INFO, &partition);
	vp.partition = partition.id;
	answered = answered && !ioctl(p.device, HVMOD_GET_VP_INFO, &vp);
	tap(answered && !stuck.over, "RUN_VP waits for memory of its program: who asks does not");
	stuck.answered = true;
	pthread_join(resolver, NULL);
	pthread_join(runner, NULL);
	memcpy(&p.message, stuck.page, sizeof(p.message));
	tap(stuck.ran && p.message.type == HV_MSG_IO_PORT, "and it ends when it has that");
	vp = (struct hvmod_vp_info){ .partition = partition.id };
	tap(!ioctl(p.device, HVMOD_GET_VP_INFO, &vp) && vp.exits[30] == 1, "and its exit was counted");
	munmap(stuck.page, PAGE);
	close(stuck.faults);
	partition_close(&p);
}

int main(void)
{
	struct rlimit files = { 64, 64 }, before;
	struct partition p;
	int fds[64], count = 0, device;

	need_partitions();
	inherited();
	owner_dies();
	threads();
	waits_for_memory();
	killed(sleeper, sleeper_end, "a process whose VP sleeps is killed");
	killed(spinner, spinner_end, "a process whose VP spins is killed");
	locked_memory();
	more_than_there_is();
	mappings();

	/* No descriptor left for the partition. */
	getrlimit(RLIMIT_NOFILE, &before);
	files.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	while (count < 64 && (fds[count] = dup(device)) >= 0)
		count++;
	struct mshv_create_partition create = { .pt_flags = 1 << MSHV_PT_BIT_LAPIC };
	tap(ioctl(device, MSHV_CREATE_PARTITION, &create) < 0 && errno == EMFILE,
	    "CREATE_PARTITION without a descriptor to give: EMFILE");
	while (count)
		close(fds[--count]);
	close(device);
	setrlimit(RLIMIT_NOFILE, &before);

	/* Partitions until there are no more. */
	device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	while (count < 64 && (fds[count] = ioctl(device, MSHV_CREATE_PARTITION, &create)) >= 0)
		count++;
	tap(count >= 8 && (count == 64 || errno == ENOSPC), "%d partitions at once, then ENOSPC", count);
	while (count)
		close(fds[--count]);
	close(device);
	partition_open(&p);
	start_long(&p, reader, reader_end);
	run_to(&p, HV_MSG_UNMAPPED_GPA, "a partition runs after all of this");
	partition_close(&p);
	return tap_finish();
}
