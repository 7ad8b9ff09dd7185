// SPDX-License-Identifier: GPL-2.0
/* Several VPs of a partition: they start, run at the same time, and get interrupts. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#include "partition.h"

#define VPS	3
#define HANDLER	0x800
#define BYTES	0x5000

/*
 * Switches its APIC on with logical ID 1 << n, says so at port 0x20, and from then on
 * counts at BYTES + n, with interrupts on. n is the APIC ID.
 */
GUEST_CODE(64, counts,
	"mov $0xfee00000, %ebp\n"
	"mov 0x20(%rbp), %ecx\n"
	"shr $24, %ecx\n"
	"mov %ecx, %esi\n"
	"mov $0x1000000, %eax\n"
	"shl %cl, %eax\n"
	"mov %eax, 0xd0(%rbp)\n"
	"movl $0x1ff, 0xf0(%rbp)\n"
	"outb %al, $0x20\n"
	"sti\n"
	"1: incb 0x5000(%rsi)\n"
	"jmp 1b\n");
/* Says at port 0x21 that an interrupt came. */
GUEST_CODE(64, tells, "movl $0, 0xb0(%rbp)\n" "outb %al, $0x21\n" "iretq\n");
/* Halts with interrupts on, for ever. */
GUEST_CODE(64, halts,
	"mov $0xfee00000, %ebp\n"
	"movl $0x1ff, 0xf0(%rbp)\n"
	"outb %al, $0x20\n"
	"1: sti\n"
	"hlt\n"
	"jmp 1b\n");

static struct partition vps[VPS];

/* What a thread that runs a VP is told, and tells. */
struct runner {
	struct partition *vp;
	pthread_t thread;
	volatile bool started;
	int error;
};

static void pause_ms(int ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static void nothing(int number)
{
}

static void *run_one(void *argument)
{
	struct runner *runner = argument;

	runner->started = true;
	runner->error = run(runner->vp);
	return NULL;
}

static void start(struct runner *runner, struct partition *vp)
{
	*runner = (struct runner){ .vp = vp };
	pthread_create(&runner->thread, NULL, run_one, runner);
	while (!runner->started)
		pause_ms(1);
}

static bool ended(struct runner *runner, int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return !pthread_timedjoin_np(runner->thread, NULL, &until);
}

/* A signal brings it back. */
static bool stop(struct runner *runner)
{
	int tries;

	for (tries = 0; tries < 100; tries++) {
		pthread_kill(runner->thread, SIGUSR1);
		if (ended(runner, 50))
			return true;
	}
	return false;
}

static void open_all(const uint8_t *code, const uint8_t *end)
{
	int i, vector;

	partition_open(&vps[0]);
	for (i = 1; i < VPS; i++) {
		vps[i] = another_vp(&vps[0], i);
		if (vps[i].vp < 0)
			tap_bail_out("VP %d: %s", i, strerror(errno));
	}
	for (i = 0; i < VPS; i++) {
		start_long(&vps[i], code, end);
		set(&vps[i], HV_RSP, STACK - i * 256);
		set(&vps[i], HV_ACTIVITY, 0);
	}
	memcpy(vps[0].memory + CODE + HANDLER, tells, tells_end - tells);
	for (vector = 32; vector < 256; vector++)
		set_gate(&vps[0], vector, HANDLER);
}

static void close_all(void)
{
	int i;

	for (i = 1; i < VPS; i++)
		close(vps[i].vp);
	partition_close(&vps[0]);
}

static bool at_port(struct partition *vp, int port)
{
	return vp->message.type == HV_MSG_IO_PORT && vp->message.port.port == port;
}

/* All run to their first port, and behind it. */
static void begin(const uint8_t *code, const uint8_t *end)
{
	int i;

	open_all(code, end);
	for (i = 0; i < VPS; i++) {
		if (run(&vps[i]) || !at_port(&vps[i], 0x20))
			tap_bail_out("VP %d does not start", i);
		skip_instruction(&vps[i]);
	}
}

static int assert_interrupt(uint32_t type, uint32_t vector, uint32_t control, uint64_t destination)
{
	struct hv_assert_interrupt in = {
		.type = type, .vector = vector, .control = control, .destination = destination,
	};

	return hypercall(vps[0].fd, HV_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0);
}

static void creation(void)
{
	struct partition more;
	struct runner runner;

	partition_open(&vps[0]);
	vps[1] = another_vp(&vps[0], 1);
	tap(vps[1].vp >= 0, "VP 1 is created");
	tap_equal("with its own index", get(&vps[1], HV_VP_INDEX), 1);
	more = another_vp(&vps[0], 1);
	tap(more.vp < 0 && errno == EEXIST, "once: EEXIST");
	more = another_vp(&vps[0], 63);
	tap(more.vp >= 0, "the last index");
	close(more.vp);
	more = another_vp(&vps[0], 63);
	tap(more.vp < 0 && errno == EEXIST, "a VP stays when its file is closed");
	more = another_vp(&vps[0], 64);
	tap(more.vp < 0 && errno != EEXIST, "there is none behind it");
	tap_equal("VP 0 is active", get(&vps[0], HV_ACTIVITY), 0);
	tap_equal("VP 1 waits for SIPI", get(&vps[1], HV_ACTIVITY), 1);
	start(&runner, &vps[1]);
	tap(!ended(&runner, 100), "in RUN_VP");
	tap(stop(&runner) && runner.error == EINTR, "until a signal comes");
	tap_equal("and still", get(&vps[1], HV_ACTIVITY), 1);
	close(vps[1].vp);
	partition_close(&vps[0]);
}

static void together(void)
{
	volatile uint8_t *bytes;
	struct runner runners[VPS];
	uint8_t before[VPS];
	int i, tries, moving = 0;

	begin(counts, counts_end);
	bytes = vps[0].memory + BYTES;
	for (i = 0; i < VPS; i++)
		start(&runners[i], &vps[i]);
	for (i = 0; i < VPS; i++) {
		before[i] = bytes[i];
		for (tries = 0; tries < 500 && bytes[i] == before[i]; tries++)
			pause_ms(2);
		moving += bytes[i] != before[i];
	}
	tap_equal("all VPs run at the same time", moving, VPS);
	/* Memory goes while they use it. */
	tap(!map(&vps[0], 0, vps[0].memory, MEMORY_SIZE, UNMAP), "their memory is unmapped meanwhile");
	memcpy(before, (void *)bytes, VPS);
	for (i = 0; i < VPS; i++)
		tap(ended(&runners[i], 5000), "VP %d comes back", i);
	tap(!memcmp(before, (void *)bytes, VPS), "and wrote nothing more");
	for (i = 0; i < VPS; i++)
		tap(!runners[i].error && vps[i].message.type == HV_MSG_UNMAPPED_GPA,
		    "VP %d: for want of memory", i);
	close_all();
}

/* Exactly the VPs of `set` come to port 0x21; all go on. */
static void check_arrival(struct runner *runners, unsigned int set, const char *name)
{
	unsigned int came = 0;
	int i;

	for (i = 0; i < VPS; i++)
		if (ended(&runners[i], set >> i & 1 ? 5000 : 30))
			came |= (runners[i].error || !at_port(&vps[i], 0x21) ? 0x100 : 1) << i;
	tap_equal(name, came, set);
	for (i = 0; i < VPS; i++)
		if (came >> i & 1) {
			skip_instruction(&vps[i]);
			start(&runners[i], &vps[i]);
		}
}

static void interrupts(const uint8_t *code, const uint8_t *end, const char *kind)
{
	struct {
		struct mshv_user_irq_table table;
		struct mshv_user_irq_entry entries[2];
	} routes = {
		.table.nr = 2,
		.entries = { { .gsi = 5, .address_lo = 0xfee02000, .data = 0x70 },
			     { .gsi = 6, .address_lo = 0xfee06004, .data = 0x71 } },
	};
	struct mshv_user_irqfd irqfd = { .fd = eventfd(0, EFD_CLOEXEC), .gsi = 5 };
	struct runner runners[VPS];
	uint64_t one = 1;
	int i, at;

	begin(code, end);
	for (i = 0; i < VPS; i++)
		start(&runners[i], &vps[i]);
	tap_note("%s", kind);
	for (i = 0; i < VPS; i++) {
		assert_interrupt(0, 0x50, 0, i);
		check_arrival(runners, 1 << i, "asserted by APIC ID");
	}
	assert_interrupt(0, 0x51, 0, 0xff);
	check_arrival(runners, 7, "asserted for all");
	tap(!ioctl(vps[0].fd, MSHV_SET_MSI_ROUTING, &routes) && !ioctl(vps[0].fd, MSHV_IRQFD, &irqfd),
	    "an irqfd whose message names VP 2");
	write(irqfd.fd, &one, sizeof(one));
	check_arrival(runners, 4, "arrives there");
	if (code == counts) {
		assert_interrupt(0, 0x52, 2, 6);
		check_arrival(runners, 6, "asserted by logical ID");
		assert_interrupt(0, 0x53, 2, 8);
		check_arrival(runners, 0, "nobody has that logical ID");
		/* Any of two, but one. */
		assert_interrupt(1, 0x54, 2, 3);
		for (at = 0, i = 0; i < 500 && !at; i++) {
			at |= ended(&runners[0], 5) ? 1 : 0;
			at |= ended(&runners[1], 5) ? 2 : 0;
		}
		tap(at == 1 || at == 2, "lowest priority takes one of two");
		if (at == 1 || at == 2) {
			i = at - 1;
			skip_instruction(&vps[i]);
			start(&runners[i], &vps[i]);
		}
	}
	assert_interrupt(5, 0, 0, 1);
	pause_ms(50);
	tap(stop(&runners[1]), "INIT does not end RUN_VP");
	tap_equal("VP 1 waits for SIPI after it", get(&vps[1], HV_ACTIVITY), 1);
	for (i = 0; i < VPS; i++)
		if (i != 1)
			tap(stop(&runners[i]) && runners[i].error == EINTR, "VP %d ran on", i);
	close(irqfd.fd);
	close_all();
}

/* The partition's file goes while VPs run. */
static void last_reference(void)
{
	struct runner runners[VPS];
	int i;

	begin(counts, counts_end);
	for (i = 0; i < VPS; i++)
		start(&runners[i], &vps[i]);
	close(vps[0].fd);
	close(vps[2].vp);
	pause_ms(20);
	for (i = 0; i < VPS; i++)
		tap(stop(&runners[i]) && runners[i].error == EINTR,
		    "VP %d runs without the partition's file%s", i, i == 2 ? " and its own" : "");
	close(vps[0].vp);
	close(vps[1].vp);
	close(vps[0].device);
	munmap(vps[0].memory, MEMORY_SIZE);
}

int main(void)
{
	struct sigaction action = { .sa_handler = nothing };

	need_partitions();
	sigaction(SIGUSR1, &action, NULL);
	creation();
	together();
	interrupts(counts, counts_end, "VPs that run");
	interrupts(halts, halts_end, "VPs that are halted");
	last_reference();
	return tap_finish();
}
