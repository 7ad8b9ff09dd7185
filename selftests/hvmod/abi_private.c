// SPDX-License-Identifier: GPL-2.0
/*
 * Private memory: the guest works with it, the root does not find it by looking through all of
 * RAM, and it comes back cleared, however its owner ends.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "partition.h"

/* 2 MiB that can be one page, and a rest that cannot. */
#define SIZE		((2u << 20) + 0x9000)
#define SECRET		0x20000		/* where the secret begins in guest memory */
#define PATTERN_PAGES	64
/* The secret is its complement: so no other memory holds it by accident. */
static volatile uint64_t key = 0x0123456789abcdef;

GUEST_CODE(64, reader,
	"mov $0x20008, %ebx\n"
	"mov (%rbx), %rax\n"
	"outl %eax, $0x10\n"
	"movq $77, (%rbx)\n"
	"mov (%rbx), %rax\n"
	"outl %eax, $0x11\n"
	"mov $0x10000008, %ebx\n"
	"mov (%rbx), %rax\n"
	"outl %eax, $0x12\n"
	"1: jmp 1b\n");

/* Works for a while, and then tells. */
GUEST_CODE(64, worker,
	"mov $30000000, %ecx\n"
	"1: dec %ecx\n"
	"jnz 1b\n"
	"outl %eax, $0x10\n");

static int create(void)
{
	struct mshv_create_partition args = {
		.pt_flags = 1 << MSHV_PT_BIT_LAPIC | 1 << MSHV_PT_BIT_GPA_SUPER_PAGES,
	};
	int device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	int fd = ioctl(device, MSHV_CREATE_PARTITION, &args);

	if (fd < 0 || ioctl(fd, MSHV_INITIALIZE_PARTITION))
		tap_bail_out("no partition: %s", strerror(errno));
	close(device);
	return fd;
}

static int set_private(int fd, uint64_t gpa, uint64_t size, const void *image, uint32_t flags)
{
	struct hvmod_private_memory memory = {
		.guest_pfn = gpa / PAGE, .size = size, .image = (uintptr_t)image, .flags = flags,
	};

	return ioctl(fd, HVMOD_SET_PRIVATE_MEMORY, &memory) ? errno : 0;
}

#define ALL (HVMOD_PRIVATE_WRITABLE | HVMOD_PRIVATE_EXECUTABLE)

/*
 * Where to look in a page: hvcore's and Linux's lists of free memory overwrite words at its
 * beginning and in its middle, whether or not the rest was cleared.
 */
#define LOOK		(PAGE / 4)

/* Pages of RAM, as /proc/kcore shows it, with the secret. */
static int find_secret(void)
{
	int file = open("/proc/kcore", O_RDONLY), found = 0, i;
	uint64_t pages = 0;
	Elf64_Ehdr header;

	if (file < 0 || pread(file, &header, sizeof(header), 0) != sizeof(header))
		tap_bail_out("/proc/kcore: %s", strerror(errno));
	for (i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;
		uint64_t at, words[4];

		if (pread(file, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment)) !=
		    sizeof(segment))
			break;
		if (segment.p_type != PT_LOAD || segment.p_paddr == (uint64_t)-1)
			continue;
		for (at = 0; at < segment.p_memsz; at += PAGE) {
			if (pread(file, words, sizeof(words), segment.p_offset + at + LOOK) !=
			    sizeof(words))
				continue;
			pages++;
			found += (words[0] ^ key) == ~0ull && (words[3] ^ key) == ~0ull;
			memset(words, 0, sizeof(words));
		}
	}
	close(file);
	tap_note("%llu pages of RAM read, %d with the secret", (unsigned long long)pages, found);
	return pages > 10000 ? found : -1;
}

/* An image with the secret, and a program at CODE that looks at it. */
static uint8_t *make_image(struct partition *p)
{
	uint8_t *image = some_memory(SIZE);
	uint64_t *secret = (uint64_t *)(image + SECRET);
	int i;

	for (i = 0; i < PATTERN_PAGES * PAGE / 8; i++)
		secret[i] = ~key;
	secret = (uint64_t *)(image + SIZE - PAGE + LOOK);
	secret[0] = ~key;
	secret[3] = ~key;
	p->memory = image;
	return image;
}

static void forget_image(struct partition *p)
{
	memset(p->memory, 0, SIZE);
	munmap(p->memory, SIZE);
	p->memory = NULL;
}

/* A partition with private memory whose VP is about to run `reader`. */
static void open_private(struct partition *p)
{
	struct mshv_create_vp vp = { 0 };
	uint8_t *image;
	int error;

	memset(p, 0, sizeof(*p));
	p->fd = create();
	p->vp = ioctl(p->fd, MSHV_CREATE_VP, &vp);
	if (p->vp < 0)
		tap_bail_out("MSHV_CREATE_VP: %s", strerror(errno));
	image = make_image(p);
	/* Its tables and code go into the image, before that is copied. */
	start_long(p, reader, reader_end);
	error = set_private(p->fd, 0, SIZE, image, ALL);
	if (error)
		tap_bail_out("HVMOD_SET_PRIVATE_MEMORY: %s", strerror(error));
	forget_image(p);
}

static void close_private(struct partition *p)
{
	close(p->vp);
	close(p->fd);
}

static void works(struct partition *p)
{
	static const uint8_t mov[] = { 0x48, 0x8b, 0x03 };

	if (run_to(p, HV_MSG_IO_PORT, "the guest reads its image"))
		tap_equal("what it reads", p->message.port.rax & 0xffffffff, (uint32_t)~key);
	skip_instruction(p);
	if (run_to(p, HV_MSG_IO_PORT, "the guest writes its memory"))
		tap_equal("what it wrote", p->message.port.rax & 0xffffffff, 77);
	skip_instruction(p);
	if (run_to(p, HV_MSG_UNMAPPED_GPA, "the guest reads a device")) {
		struct hv_memory_message *m = &p->message.memory;

		tap_equal("the address", m->gpa, 0x10000008);
		tap(m->bytes_count >= 3 && !memcmp(m->bytes, mov, 3),
		    "the instruction's bytes come from hvcore");
	}
	set(p, HV_RAX, 0x1234);
	set(p, HV_RIP, p->message.header.rip + 3);
	if (run_to(p, HV_MSG_IO_PORT, "the guest goes on"))
		tap_equal("with what the device said", p->message.port.rax & 0xffffffff, 0x1234);
}

/* RIP at the secret, and an event that cannot be delivered: an exit, though not of an instruction. */
static void tells_no_memory(void)
{
	struct hv_assoc registers[] = {
		TABLE(HV_IDTR, 0x10000000, 0xfff), PLAIN(HV_RIP, SECRET + PAGE),
		PLAIN(HV_PENDING_INTERRUPTION, 1 | 3 << 1 | 6 << 16),
	};
	struct partition p;

	open_private(&p);
	set_registers(&p, registers, 3);
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "an event is not delivered"))
		tap_equal("of what is at RIP nothing is told", p.message.memory.bytes_count, 0);
	close_private(&p);
}

static void refusals(void)
{
	struct hvmod_private_memory odd = { .size = PAGE, .reserved = { 0, 1, 0 } };
	uint8_t *memory = some_memory(2 * PAGE);
	struct partition p = { .fd = create() };

	tap_equal("no size", set_private(p.fd, 0, 0, NULL, ALL), EINVAL);
	tap_equal("half a page", set_private(p.fd, 0, 2048, NULL, ALL), EINVAL);
	tap_equal("an unknown flag", set_private(p.fd, 0, PAGE, NULL, 1 << 7), EINVAL);
	tap_equal("reserved fields", ioctl(p.fd, HVMOD_SET_PRIVATE_MEMORY, &odd) ? errno : 0, EINVAL);
	tap_equal("pages that wrap", set_private(p.fd, -PAGE, 2 * PAGE, NULL, ALL), EINVAL);
	tap_equal("an image that wraps", set_private(p.fd, 0, PAGE, (void *)-PAGE, ALL), EINVAL);
	tap_equal("an image that is not there", set_private(p.fd, 0, PAGE, (void *)PAGE, ALL), EFAULT);
	munmap(memory + PAGE, PAGE);
	tap_equal("an image that ends early", set_private(p.fd, 0, 2 * PAGE, memory, ALL), EFAULT);
	tap_equal("guest addresses above all", set_private(p.fd, 1ull << 48, PAGE, NULL, ALL), EINVAL);
	tap_equal("more than there is", set_private(p.fd, 0, 1ull << 40, NULL, ALL), ENOMEM);
	tap_equal("then it works", set_private(p.fd, 0, PAGE, NULL, ALL), 0);
	tap_equal("the same again", set_private(p.fd, 0, PAGE, NULL, ALL), EEXIST);
	tap_equal("shared memory over it", map(&p, 0, memory, PAGE, WRITABLE) ? errno : 0, EEXIST);
	tap_equal("shared memory beside it", map(&p, PAGE, memory, PAGE, WRITABLE) ? errno : 0, 0);
	tap_equal("private memory over that", set_private(p.fd, PAGE, PAGE, NULL, ALL), EEXIST);
	tap_equal("it is no shared memory to be unmapped",
		  map(&p, 0, memory, PAGE, UNMAP) ? errno : 0, ENOENT);
	close(p.fd);
	munmap(memory, PAGE);
}

static int track(int fd, uint64_t on)
{
	struct hv_set_property in = { .code = HV_PROP_GPA_ACCESS_TRACKING, .value = on };

	return hypercall(fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0) ? errno : 0;
}

/* What the root may ask of a partition does not tell what is in its private memory, or move it. */
static void questions(struct partition *p)
{
	struct mshv_gpap_access_bitmap bitmap = { .page_count = 8 };
	struct hv_translate in = { .gva_page = SECRET / PAGE };
	struct hv_translated out = { 0 };
	struct partition tracked = { .fd = create() };
	uint64_t bits = 0;
	uint8_t *memory = some_memory(PAGE);

	tap(!hypercall(p->fd, HV_TRANSLATE_VIRTUAL_ADDRESS, 0, &in, sizeof(in), &out, sizeof(out)),
	    "the root may ask where an address leads");
	tap_equal("  and is not told: the tables are not its", out.result, 4);
	tap_equal("  nor anything else", out.gpa_page, 0);
	tap_equal("accesses are not tracked: EIO", track(p->fd, 1), EIO);
	bitmap.bitmap_ptr = (uintptr_t)&bits;
	tap(ioctl(p->fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap) && errno == EIO,
	    "  and there is no bitmap: EIO");
	tap_equal("what is tracked gets no private memory: EBUSY",
		  track(tracked.fd, 1) ? -1 : set_private(tracked.fd, 0, PAGE, NULL, ALL), EBUSY);
	tap_equal("  else it does", track(tracked.fd, 0) ? -1 : set_private(tracked.fd, 0, PAGE, NULL, ALL), 0);
	tap_equal("memory of the root cannot replace it", map(p, SECRET, memory, PAGE, WRITABLE) ? errno : 0,
		  EEXIST);
	close(tracked.fd);
	munmap(memory, PAGE);
}

static uint64_t private_bytes(void)
{
	struct hvmod_partition_info info = { 0 };
	int device = open("/dev/hvmod", O_RDWR | O_CLOEXEC);
	int error = ioctl(device, HVMOD_GET_PARTITION_INFO, &info);

	close(device);
	return error ? 0 : info.private_bytes;
}

/* Memory that can become private but for its last page. */
struct half {
	int fd, faults;
	uint8_t *image;
	int error;
};

#define HALF_SIZE	(18ull << 20)	/* more than one hypercall unmaps */
#define HALF_GPA	(1ull << 30)

static void *set_half(void *argument)
{
	struct half *half = argument;

	half->error = set_private(half->fd, HALF_GPA, HALF_SIZE + PAGE, half->image, ALL);
	return NULL;
}

/* The last page is waited for, and when a VP runs it turns out that there is none. */
static void *end_half(void *argument)
{
	struct half *half = argument;

	usleep(100000);
	mprotect(half->image + HALF_SIZE, PAGE, PROT_NONE);
	close(half->faults);
	return NULL;
}

static void half_way(void)
{
	struct half half = {
		.image = mmap(NULL, HALF_SIZE + PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		.faults = syscall(SYS_userfaultfd, O_CLOEXEC),
	};
	struct uffdio_register last = {
		.range = { .start = (uintptr_t)half.image + HALF_SIZE, .len = PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	uint8_t *page = some_memory(PAGE);
	pthread_t caller, ender;
	struct partition p;
	struct uffd_msg fault;

	if (ioctl(half.faults, UFFDIO_API, &api) || ioctl(half.faults, UFFDIO_REGISTER, &last))
		tap_bail_out("userfaultfd: %s", strerror(errno));
	partition_open(&p);
	start_long(&p, worker, worker_end);
	half.fd = p.fd;
	pthread_create(&caller, NULL, set_half, &half);
	tap(read(half.faults, &fault, sizeof(fault)) == sizeof(fault), "half of some memory is private");
	pthread_create(&ender, NULL, end_half, &half);
	run_to(&p, HV_MSG_IO_PORT, "a VP runs, also while the rest cannot be");
	pthread_join(caller, NULL);
	pthread_join(ender, NULL);
	tap_equal("which is EFAULT", half.error, EFAULT);
	tap_equal("and nothing of it is left",
		  map(&p, HALF_GPA + HALF_SIZE - PAGE, page, PAGE, WRITABLE) ? errno : 0, 0);
	partition_close(&p);
	munmap(half.image, HALF_SIZE + PAGE);
	munmap(page, PAGE);
}

/* The owner is killed while its guest runs. */
static void killed(void)
{
	int ready[2], status, tries;
	char byte;
	pid_t pid;

	if (pipe(ready))
		tap_bail_out("pipe");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct partition p;

		open_private(&p);
		set(&p, HV_RIP, CODE + (reader_end - reader) - 2);
		if (write(ready[1], "", 1) == 1)
			run(&p);
		_exit(0);
	}
	close(ready[1]);
	tap(read(ready[0], &byte, 1) == 1, "another process has a guest with the secret");
	usleep(200000);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	tap(WIFSIGNALED(status), "it is killed");
	for (tries = 0; private_bytes() && tries < 100; tries++)
		usleep(50000);
	tap_equal("its partition is gone", private_bytes(), 0);
	tap_equal("the secret is nowhere in RAM", find_secret(), 0);
}

/* abi_private death WORD: hvcore dies (attack.ko arms it with that word) while a partition has the
 * secret.
 */
static int death(const char *word)
{
	struct hvmod_info info = { 0 };
	struct partition p;
	FILE *attack;
	int device;

	open_private(&p);
	tap_equal("the root does not find the secret", find_secret(), 0);
	attack = fopen("/sys/kernel/debug/hvattack", "w");
	if (!attack || fprintf(attack, "vmcall 0x1000 %s\n", word) < 0 || fclose(attack))
		tap_bail_out("hvattack: %s", strerror(errno));
	asm volatile("cpuid" : : "a"(0), "c"(0) : "ebx", "edx");
	tap_equal("the root does not find it when hvcore is dead", find_secret(), 0);
	device = open("/dev/hvmod", O_RDWR | O_CLOEXEC);
	tap(device >= 0 && !ioctl(device, HVMOD_GET_INFO, &info) && info.dead, "which it is");
	close(device);
	close_private(&p);
	return tap_finish();
}

int main(int argc, char **argv)
{
	struct partition p;
	uint8_t *image;

	need_partitions();
	if (argc == 3 && !strcmp(argv[1], "death"))
		return death(argv[2]);
	alarm(900);
	refusals();
	half_way();

	image = make_image(&p);
	tap(find_secret() >= PATTERN_PAGES, "the secret can be found in memory that is not private");
	(void)image;
	forget_image(&p);
	tap_equal("before all, it is nowhere in RAM", find_secret(), 0);

	open_private(&p);
	tap_equal("the private memory is told", private_bytes(), SIZE);
	tap_equal("the root does not find the secret", find_secret(), 0);
	works(&p);
	questions(&p);
	tap_equal("the root does not find it while the guest has run", find_secret(), 0);
	close_private(&p);
	tap_equal("it came back cleared", find_secret(), 0);
	tells_no_memory();
	killed();
	return tap_finish();
}
