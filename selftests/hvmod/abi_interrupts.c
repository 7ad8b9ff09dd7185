// SPDX-License-Identifier: GPL-2.0
/* HLT, the local APIC and its timer, interrupts by hypercall and by irqfd, signals. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#include "partition.h"

#define APIC_ENABLE							\
	"mov $0xfee00000, %ebp\n"					\
	"movl $0x1ff, 0xf0(%rbp)\n"

/* Counts interrupts at 0x4000; `handler` is where the gates lead. */
#define HANDLER(name)							\
	"incq 0x4000\n"							\
	"movl $0, 0xb0(%rbp)\n"						\
	"iretq\n"

GUEST_CODE(64, halts,
	APIC_ENABLE
	"outb %al, $0x10\n"
	"1: sti\n"
	"hlt\n"
	"cli\n"
	"outb %al, $0x11\n"
	"jmp 1b\n");
GUEST_CODE(64, handler, HANDLER());

/* One shot of the timer, and TSC before and after; then three of the periodic one. */
GUEST_CODE(64, timer,
	APIC_ENABLE
	"movl $0xb, 0x3e0(%rbp)\n"
	"movl $0x41, 0x320(%rbp)\n"
	"rdtsc\n"
	"mov %eax, %esi\n"
	"movl $100000, 0x380(%rbp)\n"
	"sti\n"
	"hlt\n"
	"cli\n"
	"rdtsc\n"
	"sub %esi, %eax\n"
	"outb %al, $0x12\n"
	"movl $0x20041, 0x320(%rbp)\n"
	"movl $50000, 0x380(%rbp)\n"
	"1: sti\n"
	"hlt\n"
	"cli\n"
	"cmpq $4, 0x4000\n"
	"jb 1b\n"
	"movl $0x10000, 0x320(%rbp)\n"
	"mov 0x390(%rbp), %eax\n"
	"outb %al, $0x13\n");

/* The timer by a deadline, in RSI, and the TSC when it has come, in RAX. */
GUEST_CODE(64, deadline,
	APIC_ENABLE
	"movl $0x40041, 0x320(%rbp)\n"
	"rdtsc\n"
	"shl $32, %rdx\n"
	"lea 10000000(%rax, %rdx), %rsi\n"
	"mov %esi, %eax\n"
	"mov %rsi, %rdx\n"
	"shr $32, %rdx\n"
	"mov $0x6e0, %ecx\n"
	"wrmsr\n"
	"outb %al, $0x10\n"
	"sti\n"
	"hlt\n"
	"cli\n"
	"rdtsc\n"
	"shl $32, %rdx\n"
	"or %rdx, %rax\n"
	"outb %al, $0x11\n");

GUEST_CODE(64, busy, APIC_ENABLE "sti\n" "1: incq 0x4008\n" "jmp 1b\n");
GUEST_CODE(64, sleeps_forever, "cli\n" "hlt\n" "outb %al, $0x14\n");

/* With the local APIC off: what the 8259A's interrupts are for. */
GUEST_CODE(64, legacy, "mov $0xfee00000, %ebp\n" "outb %al, $0x10\n" "sti\n" "hlt\n" "cli\n" "outb %al, $0x11\n"
	"nop\n" "outb %al, $0x12\n" "sti\n" "nop\n" "cli\n" "outb %al, $0x13\n");
GUEST_CODE(64, legacy_turns, "mov $0xfee00000, %ebp\n" "outb %al, $0x10\n" "outb %al, $0x11\n"
	"sti\n" "nop\n" "cli\n" "outb %al, $0x12\n" "sti\n" "nop\n" "cli\n" "outb %al, $0x13\n"
	"sti\n" "nop\n" "cli\n" "outb %al, $0x14\n");

static int assert_interrupt(struct partition *p, uint32_t vector, uint32_t control)
{
	struct hv_assert_interrupt in = { .vector = vector, .control = control };

	return hypercall(p->fd, HV_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0);
}

static void begin(struct partition *p, const uint8_t *code, const uint8_t *end)
{
	const uint64_t place = 0x800;
	int vector;

	partition_open(p);
	start_long(p, code, end);
	memcpy(p->memory + CODE + place, handler, handler_end - handler);
	for (vector = 32; vector < 256; vector++)
		set_gate(p, vector, place);
}

static bool port(struct partition *p, int number, const char *name)
{
	return run_to(p, HV_MSG_IO_PORT, name) &&
	       tap(p->message.port.port == number, "%s: at the right place", name);
}

static void pause_ms(int ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static void *later(void *argument)
{
	pause_ms(20);
	return (void *)(long)assert_interrupt(argument, 0x50, 0);
}

static void *later_by_eventfd(void *argument)
{
	uint64_t one = 1;

	pause_ms(20);
	return (void *)(long)(write(*(int *)argument, &one, sizeof(one)) != sizeof(one));
}

static int assert_external(struct partition *p, uint32_t type, uint32_t vector)
{
	struct hv_assert_interrupt in = { .type = type, .vector = vector };

	return hypercall(p->fd, HV_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0);
}

static int clear_interrupt(struct partition *p)
{
	uint64_t id = 0;

	return hypercall(p->fd, HV_CLEAR_VIRTUAL_INTERRUPT, 0, &id, sizeof(id), NULL, 0);
}

/* ExtINT, and LINT0 as the PC wires it: the vector is the VMM's, the APIC has no part in it. */
static void by_8259a(void)
{
	const int extint = 7, lint0 = 8;
	struct partition p;

	begin(&p, legacy, legacy_end);
	set_gate(&p, 8, 0x800);
	port(&p, 0x10, "the local APIC stays off");
	skip_instruction(&p);
	tap(!assert_external(&p, extint, 8), "ExtINT is asserted, with a vector below 16");
	port(&p, 0x11, "it ends HLT");
	tap_equal("and was handled once", *guest_u64(&p, RESULTS), 1);
	skip_instruction(&p);
	tap(!assert_external(&p, lint0, 0x40), "LINT0 is asserted while interrupts are off");
	port(&p, 0x12, "it waits");
	tap_equal("and is not handled", *guest_u64(&p, RESULTS), 1);
	skip_instruction(&p);
	port(&p, 0x13, "the guest takes interrupts");
	tap_equal("and handled it", *guest_u64(&p, RESULTS), 2);
	partition_close(&p);
	partition_close(&p);
}

/* What the 8259A asserted is taken back, when it waits in the VP and before the VP has seen it. */
static void cleared(void)
{
	const int extint = 7;
	struct partition p;

	begin(&p, legacy_turns, legacy_turns_end);
	port(&p, 0x10, "clear: interrupts are off");
	skip_instruction(&p);
	tap(!assert_external(&p, extint, 0x40), "clear: ExtINT is asserted");
	port(&p, 0x11, "clear: it waits");
	skip_instruction(&p);
	tap(!clear_interrupt(&p), "it is cleared");
	port(&p, 0x12, "clear: the guest takes interrupts");
	tap_equal("and gets none", *guest_u64(&p, RESULTS), 0);
	skip_instruction(&p);
	assert_external(&p, extint, 0x40);
	tap(!clear_interrupt(&p), "one is cleared at once");
	port(&p, 0x13, "clear: the guest takes interrupts again");
	tap_equal("and gets none", *guest_u64(&p, RESULTS), 0);
	skip_instruction(&p);
	tap(!clear_interrupt(&p), "clearing what is not there does nothing");
	assert_external(&p, extint, 0x40);
	port(&p, 0x14, "clear: the next one comes");
	tap_equal("once", *guest_u64(&p, RESULTS), 1);
	partition_close(&p);
}

static void by_hypercall(void)
{
	struct partition p;
	pthread_t thread;
	void *failed;

	begin(&p, halts, halts_end);
	port(&p, 0x10, "the local APIC is enabled");
	skip_instruction(&p);
	tap(!assert_interrupt(&p, 0x40, 0), "an interrupt is asserted while the VP stands");
	port(&p, 0x11, "it ends HLT");
	tap_equal("and was handled once", *guest_u64(&p, RESULTS), 1);
	skip_instruction(&p);
	pthread_create(&thread, NULL, later, &p);
	port(&p, 0x11, "one that comes while the VP is halted ends HLT");
	pthread_join(thread, &failed);
	tap(!failed, "and could be asserted meanwhile");
	tap_equal("and was handled once", *guest_u64(&p, RESULTS), 2);
	skip_instruction(&p);

	/* Two at once: the higher first, both handled before the guest goes on or after. */
	assert_interrupt(&p, 0x51, 0);
	assert_interrupt(&p, 0x91, 0);
	port(&p, 0x11, "two at once end HLT");
	tap(*guest_u64(&p, RESULTS) >= 3, "at least one of them was handled");
	skip_instruction(&p);
	if (*guest_u64(&p, RESULTS) == 3)
		port(&p, 0x11, "the second one ends the next");
	tap_equal("both were handled", *guest_u64(&p, RESULTS), 4);
	partition_close(&p);
}

static void level(void)
{
	struct partition p;

	begin(&p, halts, halts_end);
	port(&p, 0x10, "level: the local APIC is enabled");
	skip_instruction(&p);
	tap(!assert_interrupt(&p, 0x60, 1), "a level-triggered interrupt is asserted");
	if (run_to(&p, HV_MSG_APIC_EOI, "its EOI is reported"))
		tap_equal("with the vector", p.message.eoi.vector, 0x60);
	port(&p, 0x11, "level: the guest goes on");
	tap_equal("level: handled once", *guest_u64(&p, RESULTS), 1);
	partition_close(&p);
}

static void by_irqfd(void)
{
	struct partition p;
	struct {
		struct mshv_user_irq_table table;
		struct mshv_user_irq_entry entries[2];
	} routes = {
		.table.nr = 2,
		.entries = { { .gsi = 3, .address_lo = 0xfee00000, .data = 0x70 },
			     { .gsi = 9, .address_lo = 0xfee00000, .data = 0x71 } },
	};
	int event = eventfd(0, EFD_CLOEXEC);
	struct mshv_user_irqfd irqfd = { .fd = event, .gsi = 9 };
	pthread_t thread;
	void *failed;
	uint64_t one = 1;

	begin(&p, halts, halts_end);
	port(&p, 0x10, "irqfd: the local APIC is enabled");
	skip_instruction(&p);
	tap(!ioctl(p.fd, MSHV_SET_MSI_ROUTING, &routes), "routes are set");
	tap(!ioctl(p.fd, MSHV_IRQFD, &irqfd), "an irqfd is assigned");
	tap(write(event, &one, sizeof(one)) == sizeof(one), "it is signalled");
	port(&p, 0x11, "irqfd: HLT ends");
	tap_equal("irqfd: handled once", *guest_u64(&p, RESULTS), 1);
	skip_instruction(&p);
	pthread_create(&thread, NULL, later_by_eventfd, &event);
	port(&p, 0x11, "irqfd: HLT ends, signalled while the VP sleeps");
	pthread_join(thread, &failed);
	tap_equal("irqfd: handled once more", *guest_u64(&p, RESULTS), 2);
	irqfd.flags = 1 << MSHV_IRQFD_BIT_DEASSIGN;
	tap(!ioctl(p.fd, MSHV_IRQFD, &irqfd), "the irqfd is taken away");
	close(event);
	partition_close(&p);
}

static void apic_timer(void)
{
	struct partition p;

	begin(&p, timer, timer_end);
	if (port(&p, 0x12, "the APIC's timer ends HLT")) {
		tap_equal("one interrupt came", *guest_u64(&p, RESULTS), 1);
		tap((p.message.port.rax & 0xffffffff) > 1000, "not before its time");
		tap_note("%llu TSC ticks", (unsigned long long)(p.message.port.rax & 0xffffffff));
		skip_instruction(&p);
	}
	port(&p, 0x13, "the periodic timer");
	tap(*guest_u64(&p, RESULTS) >= 4, "it came again and again");
	partition_close(&p);
}

static void *signal_later(void *argument)
{
	pause_ms(30);
	pthread_kill(*(pthread_t *)argument, SIGUSR1);
	return NULL;
}

static void nothing(int number)
{
}

static void interrupted(struct partition *p, const char *name)
{
	pthread_t self = pthread_self(), thread;
	int error;

	pthread_create(&thread, NULL, signal_later, &self);
	error = run(p);
	pthread_join(thread, NULL);
	tap_equal(name, error, EINTR);
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = nothing };
	struct partition p;
	uint64_t before;

	sigaction(SIGUSR1, &action, NULL);
	begin(&p, busy, busy_end);
	interrupted(&p, "a signal ends RUN_VP of a busy VP: EINTR");
	before = *guest_u64(&p, RESULTS + 8);
	tap(before > 0, "the VP was running");
	interrupted(&p, "and again");
	tap(*guest_u64(&p, RESULTS + 8) > before, "it went on where it was");
	tap(!assert_interrupt(&p, 0x44, 0), "an interrupt for a busy VP");
	interrupted(&p, "and once more");
	tap_equal("the busy VP handled it", *guest_u64(&p, RESULTS), 1);
	raise(SIGUSR1);
	tap_equal("a signal that was handled before RUN_VP ends it too: EINTR", run(&p), EINTR);
	before = *guest_u64(&p, RESULTS + 8);
	interrupted(&p, "once");
	tap(*guest_u64(&p, RESULTS + 8) > before, "then the VP runs on");
	partition_close(&p);

	begin(&p, sleeps_forever, sleeps_forever_end);
	interrupted(&p, "a signal ends RUN_VP of a halted VP: EINTR");
	interrupted(&p, "it is halted still");
	partition_close(&p);
}

/* As run_to(), of a VP that would sleep for long if the test fails. */
static void run_soon(struct partition *p, const char *name)
{
	struct sigaction action = { .sa_handler = nothing }, before;

	sigaction(SIGALRM, &action, &before);
	alarm(20);
	run_to(p, HV_MSG_IO_PORT, name);
	sigaction(SIGALRM, &before, NULL);
	alarm(300);
}

static void wait_for_deadline(struct partition *p)
{
	begin(p, deadline, deadline_end);
	set(p, HV_TSC, 1ull << 42);
	port(p, 0x10, "the timer waits for a deadline");
	skip_instruction(p);
}

/* What a VMM sets does not hold IA32_TSC_DEADLINE: the state of a local APIC, and the TSC. */
static void deadlines(void)
{
	struct mshv_get_set_vp_state state = { .buf_sz = PAGE, .type = MSHV_VP_STATE_LAPIC };
	struct partition p, other;

	state.buf_ptr = (uintptr_t)some_memory(PAGE);
	wait_for_deadline(&p);
	tap(!ioctl(p.vp, MSHV_GET_VP_STATE, &state) && !ioctl(p.vp, MSHV_SET_VP_STATE, &state),
	    "the APIC's state is got and set again");
	run_soon(&p, "the timer fires all the same");
	tap(get(&p, HV_RAX) >= get(&p, HV_RSI), "and not before its time");
	partition_close(&p);

	begin(&other, halts, halts_end);
	port(&other, 0x10, "another VP");
	tap(!ioctl(other.vp, MSHV_SET_VP_STATE, &state), "is given that state");
	skip_instruction(&other);
	run_soon(&other, "and is not left waiting for a deadline that nobody knows");
	tap_equal("by one interrupt", *guest_u64(&other, RESULTS), 1);
	partition_close(&other);

	wait_for_deadline(&p);
	set(&p, HV_TSC, get(&p, HV_TSC));
	run_soon(&p, "TSC and deadline, the TSC set as it is: the timer fires");
	tap(get(&p, HV_RAX) >= get(&p, HV_RSI), "and not before its time");
	partition_close(&p);

	wait_for_deadline(&p);
	set(&p, HV_TSC, get(&p, HV_TSC) - (1ull << 40));
	run_soon(&p, "the TSC set hours back: the timer does not wait for them");
	tap_equal("it fires once", *guest_u64(&p, RESULTS), 1);
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	by_8259a();
	cleared();
	by_hypercall();
	level();
	by_irqfd();
	apic_timer();
	deadlines();
	signals();
	return tap_finish();
}
