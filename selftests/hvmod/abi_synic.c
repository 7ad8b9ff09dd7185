// SPDX-License-Identifier: GPL-2.0
/* The synthetic interrupt controller: messages, events, timers, and their state. */
#include "interface.h"

/* Hypervisor present, its interface, time, SynIC, timers, hypercalls; and direct timers. */
#define MOST_FEATURES	(1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7)
#define FEATURES	(MOST_FEATURES | 1 << 22)

#define MESSAGES	0x20000
#define EVENTS		0x21000
#define SINT		4
#define SLOT		(MESSAGES + SINT * 256)
#define VECTOR		0x50

#define TIMER_CONFIG(n)	(MSR_STIMER0 + 2 * (n))
#define TIMER_COUNT(n)	(MSR_STIMER0 + 2 * (n) + 1)
#define TIMER_ENABLED	(1 << 0)
#define TIMER_PERIODIC	(1 << 1)
#define TIMER_AUTO	(1 << 3)
#define TIMER_DIRECT	(1 << 12 | VECTOR << 4)
#define TIMER_SINT	(SINT << 16)

#define STATUS_SYNIC	0x18	/* its state does not allow that */
#define STATUS_IN_USE	0x19	/* the slot has a message */

#define APIC_ENABLE	"mov $0xfee00000, %ebp\n" "movl $0x1ff, 0xf0(%rbp)\n"
GUEST_CODE(64, enables, APIC_ENABLE "outb %al, $0x10\n");
GUEST_CODE(64, waits, APIC_ENABLE "1: sti\n" "hlt\n" "cli\n" "outb %al, $0x12\n" "jmp 1b\n");
/* Until the handler was there three times; it never halts. */
GUEST_CODE(64, busy, APIC_ENABLE "sti\n" "1: incq 0x4008\n" "cmpq $3, 0x4000\n" "jb 1b\n" "cli\n" "outb %al, $0x13\n");
/* Empties the slot and says so. */
GUEST_CODE(64, handler,
	"incq 0x4000\n"
	"movl $0, 0x20400\n"
	"mov $0x40000084, %ecx\n"
	"xor %eax, %eax\n"
	"xor %edx, %edx\n"
	"wrmsr\n"
	"movl $0, 0xb0(%rbp)\n"
	"iretq\n");
GUEST_CODE(64, keeps, "incq 0x4000\n" "movl $0, 0xb0(%rbp)\n" "iretq\n");

/* The errno, and in `status` what the hypervisor says. */
static int post(struct partition *p, uint32_t vp, uint8_t vtl, uint32_t sint, uint8_t content, uint16_t *status)
{
	struct hv_post_message in = { .vp_index = vp, .vtl = vtl, .sint = sint };
	struct mshv_root_hvcall call = {
		.code = HV_POST_MESSAGE, .in_sz = sizeof(in), .in_ptr = (uintptr_t)&in,
	};
	int error;

	in.message.type = 1;
	in.message.payload_size = 8;
	memset(in.message.payload, content, 8);
	error = ioctl(p->fd, MSHV_ROOT_HVCALL, &call) ? errno : 0;
	*status = call.status;
	return error;
}

/* 0 or 1: whether the event is new; or -errno. */
static int signal_flag(struct partition *p, uint8_t sint, uint16_t flag)
{
	struct hv_signal_event in = { .sint = sint, .flag = flag };
	uint8_t out[8] = { 0xee };

	return hypercall(p->fd, HV_SIGNAL_EVENT, 0, &in, sizeof(in), out, sizeof(out)) ? -errno : out[0];
}

/* With its pages, and source 4 as an interrupt whose handler is this one. */
static void begin(struct partition *p, const uint8_t *code, const uint8_t *end)
{
	partition_open_as(p, FEATURES);
	start_long(p, enables, enables_end);
	run_to(p, HV_MSG_IO_PORT, "a VP switches its APIC on");
	write_msr(p, MSR_SIMP, MESSAGES | 1);
	write_msr(p, MSR_SIEFP, EVENTS | 1);
	write_msr(p, MSR_SCONTROL, 1);
	write_msr(p, MSR_SINT0 + SINT, VECTOR);
	memcpy(p->memory + CODE + 0x900, code, end - code);
	set_gate(p, VECTOR, 0x900);
}

static void registers(void)
{
	uint64_t value;
	struct partition p;

	partition_open_as(&p, FEATURES);
	tap_equal("the controller is of version 1", msr(&p, MSR_SVERSION), 1);
	tap(!write_msr(&p, MSR_SVERSION, 1), "which cannot be written: #GP");
	tap(msr(&p, MSR_SCONTROL) == 0 && msr(&p, MSR_SIMP) == 0 && msr(&p, MSR_SINT0 + 15) == 1 << 16,
	    "it is off, with every source masked");
	tap(!write_msr(&p, MSR_SINT0, 8), "a vector below 16: #GP");
	tap(!write_msr(&p, MSR_SINT0, VECTOR | 1 << 17), "auto-EOI: #GP");
	tap(!write_msr(&p, MSR_SIMP, 1ull << 40 | 1), "a page where there is no memory: #GP");
	tap_equal("neither has an effect", msr(&p, MSR_SINT0), 1 << 16);
	tap(!read_msr(&p, MSR_SINT0 + 16, &value), "a seventeenth source: #GP");
	tap(!write_msr(&p, TIMER_CONFIG(0), TIMER_ENABLED | 1 << 12 | 8 << 4),
	    "a direct timer with a vector below 16: #GP");
	memset(p.memory + MESSAGES, 0x55, PAGE);
	tap(write_msr(&p, MSR_SIMP, MESSAGES | 1), "a page for messages");
	tap(p.memory[MESSAGES] == 0 && p.memory[MESSAGES + PAGE - 1] == 0, "is empty");
	tap_equal("a VMM reads the register", get(&p, HV_SIMP), MESSAGES | 1);
	p.memory[MESSAGES] = 7;
	set(&p, HV_SIMP, EVENTS | 1);
	set(&p, HV_SIMP, MESSAGES | 1);
	tap_equal("and sets it, with the page as it was", p.memory[MESSAGES], 7);
	set(&p, HV_SINT0 + SINT, VECTOR);
	tap_equal("it sets a source", msr(&p, MSR_SINT0 + SINT), VECTOR);
	set(&p, HV_STIMER0 + 2, TIMER_SINT);
	set(&p, HV_STIMER0 + 3, 1234);
	tap(msr(&p, TIMER_CONFIG(1)) == TIMER_SINT && msr(&p, TIMER_COUNT(1)) == 1234, "and a timer");
	partition_close(&p);
}

static void messages(void)
{
	struct partition p;
	struct hv_message *slot;
	uint16_t status;

	begin(&p, keeps, keeps_end);
	slot = (struct hv_message *)(p.memory + SLOT);
	tap_equal("a message for the guest", post(&p, 0, 0, SINT, 0x77, &status), 0);
	tap(slot->type == 1 && slot->payload_size == 8 && slot->payload[7] == 0x77 && !slot->flags,
	    "is in its slot");
	start_long(&p, waits, waits_end);
	if (run_to(&p, HV_MSG_IO_PORT, "the guest runs"))
		tap_equal("and is told by an interrupt", *guest_u64(&p, RESULTS), 1);
	tap(post(&p, 0, 0, SINT, 0x78, &status) == EIO && status == STATUS_IN_USE,
	    "another one, with the slot in use: EIO");
	tap(slot->payload[7] == 0x77 && slot->flags == 1, "leaves the first, with a mark");
	slot->type = 0;
	tap_equal("once that is taken", post(&p, 0, 0, SINT, 0x78, &status), 0);
	tap(slot->payload[7] == 0x78 && !slot->flags, "there is room");
	slot->type = 0;
	skip_instruction(&p);
	if (run_to(&p, HV_MSG_IO_PORT, "the guest runs on"))
		tap_equal("and was told", *guest_u64(&p, RESULTS), 2);
	tap(post(&p, 0, 0, SINT + 1, 0, &status) == EIO && status == STATUS_SYNIC, "for a masked source: EIO");
	tap_equal("for a source that does not exist: EINVAL", post(&p, 0, 0, 16, 0, &status), EINVAL);
	tap_equal("for a VP that does not exist: EINVAL", post(&p, 7, 0, SINT, 0, &status), EINVAL);
	tap_equal("for another VTL: EINVAL", post(&p, 0, 1, SINT, 0, &status), EINVAL);
	write_msr(&p, MSR_SCONTROL, 0);
	tap(post(&p, 0, 0, SINT, 0, &status) == EIO && status == STATUS_SYNIC, "with the controller off: EIO");
	tap_equal("none of these has an effect", slot->type, 0);
	partition_close(&p);
}

static void events(void)
{
	struct partition p;
	uint64_t *flags;

	begin(&p, keeps, keeps_end);
	flags = guest_u64(&p, EVENTS + SINT * 256);
	tap_equal("an event is new", signal_flag(&p, SINT, 130), 1);
	tap_equal("its flag is set", flags[2], 1 << 2);
	tap_equal("again it is not new", signal_flag(&p, SINT, 130), 0);
	tap_equal("the last flag", signal_flag(&p, SINT, 2047), 1);
	tap_equal("is set", flags[31], 1ull << 63);
	start_long(&p, waits, waits_end);
	if (run_to(&p, HV_MSG_IO_PORT, "the guest runs"))
		tap_equal("and is told by an interrupt", *guest_u64(&p, RESULTS), 1);
	tap_equal("a flag past the last: EINVAL", signal_flag(&p, SINT, 2048), -EINVAL);
	tap_equal("a source that does not exist: EINVAL", signal_flag(&p, 16, 0), -EINVAL);
	tap_equal("of a masked source nobody is told", signal_flag(&p, SINT + 1, 0), 0);
	tap_equal("and nothing set", flags[32], 0);
	partition_close(&p);
}

/* Reference time in a message of a timer: when it expired, and when that was told. */
#define EXPIRED(message)	(*(uint64_t *)((message)->payload + 8))
#define DELIVERED(message)	(*(uint64_t *)((message)->payload + 16))

static void timers(void)
{
	struct partition p;
	struct hv_message *slot;
	uint64_t due;

	begin(&p, keeps, keeps_end);
	slot = (struct hv_message *)(p.memory + SLOT);
	due = msr(&p, MSR_TIME) + 2000000;
	write_msr(&p, TIMER_COUNT(1), due);
	write_msr(&p, TIMER_CONFIG(1), TIMER_ENABLED | TIMER_SINT);
	start_long(&p, waits, waits_end);
	if (run_to(&p, HV_MSG_IO_PORT, "a timer wakes a VP that halted"))
		tap_equal("by an interrupt", *guest_u64(&p, RESULTS), 1);
	tap(slot->type == 0x80000010 && slot->payload_size == 24 && slot->payload[0] == 1,
	    "its message says which timer it was");
	tap(EXPIRED(slot) == due && DELIVERED(slot) >= due, "and when");
	tap_equal("it is not enabled any more", msr(&p, TIMER_CONFIG(1)), TIMER_SINT);
	slot->type = 5;
	write_msr(&p, TIMER_CONFIG(1), TIMER_ENABLED | TIMER_SINT);
	tap(msr(&p, TIMER_CONFIG(1)) == TIMER_SINT && slot->type == 5 && slot->flags == 1,
	    "one that is over already waits for its slot");
	slot->type = 0;
	write_msr(&p, MSR_EOM, 0);
	msr(&p, MSR_SVERSION);
	tap(slot->type == 0x80000010 && EXPIRED(slot) == due, "until the end of the message there");

	slot->type = 0;
	*guest_u64(&p, RESULTS) = 0;
	start_long(&p, waits, waits_end);
	memcpy(p.memory + CODE + 0x900, handler, handler_end - handler);
	/* What still pends. */
	run(&p);
	write_msr(&p, TIMER_COUNT(0), 10000);
	write_msr(&p, TIMER_CONFIG(0), TIMER_ENABLED | TIMER_PERIODIC | TIMER_SINT);
	*guest_u64(&p, RESULTS) = 0;
	start_long(&p, busy, busy_end);
	if (run_to(&p, HV_MSG_IO_PORT, "a periodic timer interrupts a VP that runs"))
		tap(*guest_u64(&p, RESULTS) >= 3, "again and again");
	tap_equal("it goes on", msr(&p, TIMER_CONFIG(0)), TIMER_ENABLED | TIMER_PERIODIC | TIMER_SINT);
	write_msr(&p, TIMER_COUNT(0), 0);
	tap_equal("until its count is 0", msr(&p, TIMER_CONFIG(0)), TIMER_PERIODIC | TIMER_SINT);
	partition_close(&p);
}

/* Those that are interrupts themselves, as Linux uses them. */
static void direct_timers(void)
{
	const struct hv_assoc timer = { .name = 0xb0000, .value.u64 = TIMER_DIRECT };
	struct partition p;
	uint64_t due;

	partition_open_as(&p, MOST_FEATURES);
	tap(!write_msr(&p, TIMER_CONFIG(0), TIMER_DIRECT), "a direct timer that was not asked for: #GP");
	tap(try_set_registers(&p, &timer, 1) && errno == EINVAL, "nor can its VMM have one: EINVAL");
	partition_close(&p);

	begin(&p, keeps, keeps_end);
	/* No source is told, so none is needed. */
	write_msr(&p, MSR_SCONTROL, 0);
	tap(write_msr(&p, TIMER_CONFIG(0), TIMER_ENABLED | TIMER_AUTO | TIMER_DIRECT), "a direct timer");
	due = msr(&p, MSR_TIME) + 2000000;
	write_msr(&p, TIMER_COUNT(0), due);
	tap_equal("waits", msr(&p, TIMER_CONFIG(0)), TIMER_ENABLED | TIMER_AUTO | TIMER_DIRECT);
	start_long(&p, waits, waits_end);
	if (run_to(&p, HV_MSG_IO_PORT, "and wakes a VP that halted"))
		tap_equal("by its interrupt", *guest_u64(&p, RESULTS), 1);
	tap(msr(&p, MSR_TIME) >= due, "not before its time");
	tap_equal("once", msr(&p, TIMER_CONFIG(0)), TIMER_AUTO | TIMER_DIRECT);
	tap_equal("with no message", *guest_u64(&p, SLOT), 0);
	set(&p, HV_TSC, 1ull << 42);
	due = msr(&p, MSR_TIME) + 50000000;
	write_msr(&p, TIMER_COUNT(0), due);
	set(&p, HV_TSC, get(&p, HV_TSC) - (1ull << 40));
	start_long(&p, waits, waits_end);
	run_to(&p, HV_MSG_IO_PORT, "time set hours back: it does not wait for them");
	tap(msr(&p, MSR_TIME) < due, "but comes early");
	write_msr(&p, TIMER_COUNT(0), 10000);
	write_msr(&p, TIMER_CONFIG(0), TIMER_ENABLED | TIMER_PERIODIC | TIMER_DIRECT);
	*guest_u64(&p, RESULTS) = 0;
	start_long(&p, busy, busy_end);
	if (run_to(&p, HV_MSG_IO_PORT, "a periodic one interrupts a VP that runs"))
		tap(*guest_u64(&p, RESULTS) >= 3, "again and again");
	partition_close(&p);
}

static int state(struct partition *p, bool set_it, uint8_t type, void *page)
{
	struct mshv_get_set_vp_state args = { .type = type, .buf_sz = PAGE, .buf_ptr = (uintptr_t)page };

	return ioctl(p->vp, set_it ? MSHV_SET_VP_STATE : MSHV_GET_VP_STATE, &args) ? errno : 0;
}

static void states(void)
{
	uint8_t *page = some_memory(PAGE);
	uint64_t *words = (uint64_t *)page;
	struct partition p;
	uint16_t status;

	partition_open_as(&p, FEATURES);
	memset(page, 0xee, PAGE);
	tap(!state(&p, false, MSHV_VP_STATE_SIMP, page) && page[0] == 0 && page[PAGE - 1] == 0,
	    "a page of messages that is not in use is empty");
	tap(!state(&p, true, MSHV_VP_STATE_SIMP, page) && !state(&p, true, MSHV_VP_STATE_SIEFP, page),
	    "and can be set");
	partition_close(&p);

	begin(&p, keeps, keeps_end);
	post(&p, 0, 0, SINT, 0x77, &status);
	tap(!state(&p, false, MSHV_VP_STATE_SIMP, page) && !memcmp(page, p.memory + MESSAGES, PAGE) &&
	    page[SINT * 256] == 1, "the page of messages can be got");
	memset(page, 0x33, PAGE);
	tap(!state(&p, true, MSHV_VP_STATE_SIEFP, page) && !memcmp(page, p.memory + EVENTS, PAGE),
	    "the page of events can be set");
	write_msr(&p, TIMER_COUNT(2), 1ull << 50);
	write_msr(&p, TIMER_CONFIG(2), TIMER_ENABLED | TIMER_SINT);
	memset(page, 0xee, PAGE);
	/* Of each timer: flags, configuration, count, when it expires, when it did. */
	tap(!state(&p, false, MSHV_VP_STATE_SYNTHETIC_TIMERS, page) &&
	    words[11] == (TIMER_ENABLED | TIMER_SINT) && words[12] == 1ull << 50 && words[20] == 0,
	    "the timers can be got");
	words[12] = 1ull << 51;
	words[13] = 0;
	tap(!state(&p, true, MSHV_VP_STATE_SYNTHETIC_TIMERS, page) && msr(&p, TIMER_COUNT(2)) == 1ull << 51,
	    "and set");
	words[11] |= 1 << 12;
	tap_equal("a configuration that there is not: EINVAL",
		  state(&p, true, MSHV_VP_STATE_SYNTHETIC_TIMERS, page), EINVAL);
	tap_equal("leaves them as they were", msr(&p, TIMER_CONFIG(2)), TIMER_ENABLED | TIMER_SINT);
	partition_close(&p);
	munmap(page, PAGE);
}

int main(void)
{
	need_partitions();
	registers();
	messages();
	events();
	timers();
	direct_timers();
	states();
	return tap_finish();
}
