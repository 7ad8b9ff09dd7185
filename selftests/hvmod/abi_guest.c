// SPDX-License-Identifier: GPL-2.0
/* What a guest that knows Hyper-V finds: CPUID, synthetic MSRs, pages, hypercalls. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "interface.h"

/* Synthetic features, as QEMU asks for them, SynIC and timers included, and all there could be. */
#define LIKE_QEMU	0x06400ffbull
#define EVERYTHING	(~0ull)

enum { FLUSH_SPACE = 2, FLUSH_LIST = 3, SEND_IPI = 0xb, POST_MESSAGE = 0x5c };
#define FAST		(1ull << 16)
#define REPS(count)	((uint64_t)(count) << 32)

#define HYPERCALL_PAGE	0x20000
#define TSC_PAGE	0x21000
#define INPUT		0x22000
#define VECTOR		0x41

GUEST_CODE(64, ask_cpuid, "cpuid\n" "outb %al, $0x10\n");
GUEST_CODE(64, call_page, "call *%rbx\n" "outb %al, $0x10\n");
GUEST_CODE(64, call_now, "vmcall\n" "outb %al, $0x10\n");
GUEST_CODE(64, spins, "outb %al, $0x10\n" "1: incq 0x5000\n" "jmp 1b\n");
GUEST_CODE(64, halts, "mov $0xfee00000, %ebp\n" "movl $0x1ff, 0xf0(%rbp)\n" "outb %al, $0x10\n" "sti\n" "1: hlt\n" "jmp 1b\n");
/* The time by the MSR, by the page, and by the MSR again. */
GUEST_CODE(64, times,
	"mov $0x40000020, %ecx\n"
	"rdmsr\n"
	"shl $32, %rdx\n"
	"or %rdx, %rax\n"
	"mov %rax, %rsi\n"
	"rdtsc\n"
	"shl $32, %rdx\n"
	"or %rdx, %rax\n"
	"mulq 0x21008\n"
	"add 0x21010, %rdx\n"
	"mov %rdx, %rdi\n"
	"rdmsr\n"
	"shl $32, %rdx\n"
	"or %rdx, %rax\n"
	"outb %al, $0x10\n");

static bool guest_cpuid(struct partition *p, uint32_t leaf, uint32_t values[4])
{
	const uint32_t names[] = { HV_RAX, HV_RBX, HV_RCX, HV_RDX };
	int i;

	start_long(p, ask_cpuid, ask_cpuid_end);
	set(p, HV_RAX, leaf);
	if (!comes_through(p))
		return false;
	for (i = 0; i < 4; i++)
		values[i] = get(p, names[i]);
	return true;
}

/* A hypercall of the guest: RAX, or ~0 if it faults. */
static uint64_t guest_call(struct partition *p, uint64_t control, uint64_t rdx, uint64_t r8)
{
	start_long(p, call_page, call_page_end);
	set(p, HV_RBX, HYPERCALL_PAGE);
	set(p, HV_RCX, control);
	set(p, HV_RDX, rdx);
	set(p, 0x20008, r8);
	return comes_through(p) ? get(p, HV_RAX) : ~0ull;
}

static uint64_t property(struct partition *p, uint32_t code)
{
	struct hv_set_property in = { .code = code };
	uint64_t value = ~0ull;

	hypercall(p->fd, HV_GET_PARTITION_PROPERTY, 0, &in, 16, &value, sizeof(value));
	return value;
}

static void without(void)
{
	static const uint32_t msrs[] = { MSR_GUEST_OS_ID, MSR_VP_INDEX, MSR_TIME, MSR_IDLE };
	uint32_t values[4] = { 0 };
	struct partition p;
	uint64_t value;
	size_t i;

	partition_open(&p);
	tap_equal("no features were asked for: none", property(&p, HV_PROP_SYNTHETIC_FEATURES), 0);
	guest_cpuid(&p, 1, values);
	tap(!(values[2] >> 31), "CPUID does not say that there is a hypervisor");
	guest_cpuid(&p, 0x40000000, values);
	tap(values[1] != 0x7263694d, "nor which");
	for (i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		tap(!read_msr(&p, msrs[i], &value), "RDMSR %#x: #GP", msrs[i]);
	tap(!write_msr(&p, MSR_GUEST_OS_ID, 1), "WRMSR of the guest's name: #GP");
	partition_close(&p);
}

static void announced(void)
{
	static const uint32_t absent[] = { MSR_RESET, MSR_VP_RUNTIME, MSR_EOI, MSR_TSC_INVARIANT };
	uint32_t values[4] = { 0 }, clock[4] = { 0 };
	struct partition p;
	uint64_t value;
	size_t i;

	partition_open_as(&p, EVERYTHING);
	tap_equal("of all features, those that there are", property(&p, HV_PROP_SYNTHETIC_FEATURES),
		  0x06400fbb);
	guest_cpuid(&p, 1, values);
	tap(values[2] >> 31, "CPUID says that there is a hypervisor");
	tap(!hypercall(p.vp, HV_REGISTER_INTERCEPT_RESULT, 0, &(struct hv_cpuid_result){
		.type = HV_TYPE_CPUID, .eax = 1, .values = { [5] = ~0u } }, sizeof(struct hv_cpuid_result), NULL, 0),
	    "a VMM that takes its word on that from the root's CPUID");
	guest_cpuid(&p, 1, values);
	tap(values[2] >> 31, "does not hide it");
	guest_cpuid(&p, 0x40000000, values);
	tap(values[1] == 0x7263694d && values[2] == 0x666f736f && values[3] == 0x76482074,
	    "it has Hyper-V's name");
	tap(values[0] >= 0x40000005, "and enough leaves");
	guest_cpuid(&p, 0x40000001, values);
	tap_equal("and interface", values[0], 0x31237648);
	guest_cpuid(&p, 0x40000003, values);
	tap_equal("leaf 0x40000003 announces what there is", values[0], 0xe6e);
	for (i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		tap(!read_msr(&p, absent[i], &value), "MSR %#x is not announced: #GP", absent[i]);
	guest_cpuid(&p, 0x15, clock);
	tap_equal("the TSC's frequency is that of leaf 0x15", msr(&p, MSR_TSC_FREQUENCY),
		  (uint64_t)clock[2] * clock[1] / clock[0]);
	tap_equal("the APIC's too", msr(&p, MSR_APIC_FREQUENCY), clock[2]);
	tap(!write_msr(&p, MSR_TSC_FREQUENCY, 0), "neither can be written: #GP");
	tap_equal("the VP's index", msr(&p, MSR_VP_INDEX), 0);
	partition_close(&p);
}

static void hypercall_page(void)
{
	struct partition p;

	partition_open_as(&p, LIKE_QEMU);
	start_long(&p, call_now, call_now_end);
	tap(!comes_through(&p), "a hypercall before the interface is set up: #UD");
	tap(write_msr(&p, MSR_HYPERCALL, HYPERCALL_PAGE | 1), "the page before the name");
	tap_equal("has no effect", msr(&p, MSR_HYPERCALL), 0);
	tap(write_msr(&p, MSR_GUEST_OS_ID, 0x8100000000000001), "the guest says who it is");
	tap_equal("the program can ask", property(&p, 0x00070000), 0x8100000000000001);
	tap(write_msr(&p, MSR_HYPERCALL, HYPERCALL_PAGE | 1), "and where the page shall be");
	tap_equal("there it is", memcmp(p.memory + HYPERCALL_PAGE, "\x0f\x01\xc1\xc3", 4), 0);
	tap_equal("an unknown hypercall says so", guest_call(&p, 0xfff, 0, 0), 2);
	tap_equal("one that is not there too", guest_call(&p, POST_MESSAGE, INPUT, 0), 2);
	tap_equal("reserved bits: invalid input", guest_call(&p, FLUSH_SPACE | 1ull << 63, 0, 0), 3);
	tap_equal("input that is not aligned", guest_call(&p, FLUSH_SPACE, INPUT + 4, 0), 4);
	tap_equal("input across pages", guest_call(&p, FLUSH_SPACE, INPUT + 4080, 0), 4);
	tap_equal("input where there is no memory", guest_call(&p, FLUSH_SPACE, 1ull << 40, 0), 3);
	tap_equal("input at the end of all addresses", guest_call(&p, FLUSH_SPACE, -4096ull, 0), 3);
	tap(!write_msr(&p, MSR_HYPERCALL, 1ull << 40 | 1), "a page where there is no memory: #GP");
	tap_equal("and the old one stays", msr(&p, MSR_HYPERCALL), HYPERCALL_PAGE | 1);
	tap(write_msr(&p, MSR_VP_ASSIST_PAGE, INPUT | 1), "an assist page");
	tap_equal("is kept", msr(&p, MSR_VP_ASSIST_PAGE), INPUT | 1);
	tap(write_msr(&p, MSR_GUEST_OS_ID, 0), "a guest without a name");
	tap_equal("has no hypercalls", guest_call(&p, 0xfff, 0, 0), ~0ull);

	memset(p.memory + HYPERCALL_PAGE, 0, PAGE);
	set(&p, HV_HYPERCALL, HYPERCALL_PAGE | 1);
	set(&p, HV_GUEST_OS_ID, 7);
	tap_equal("a VMM sets both: a guest that is restored", guest_call(&p, 0xfff, 0, 0), 2);
	tap_equal("it can read them", get(&p, HV_GUEST_OS_ID), 7);
	partition_close(&p);
}

static void reference_time(void)
{
	struct hv_set_property in = { .code = HV_PROP_REFERENCE_TIME, .value = 1ull << 40 };
	uint64_t before, after, hz, start, sequence;
	struct partition p;

	partition_open_as(&p, LIKE_QEMU);
	tap(!write_msr(&p, MSR_REFERENCE_TSC, 1ull << 40 | 1), "a TSC page where there is no memory: #GP");
	tap(write_msr(&p, MSR_REFERENCE_TSC, TSC_PAGE | 1), "a reference TSC page");
	sequence = *guest_u64(&p, TSC_PAGE);
	tap(sequence, "is valid");
	hz = msr(&p, MSR_TSC_FREQUENCY);
	before = msr(&p, MSR_TIME);
	start = get(&p, HV_TSC);
	set(&p, HV_TSC, start + 10 * hz);
	after = msr(&p, MSR_TIME);
	tap(after - before >= 100000000 && after - before < 110000000,
	    "ten seconds of the TSC are 100,000,000 units");
	start_long(&p, times, times_end);
	comes_through(&p);
	tap(get(&p, HV_RSI) <= get(&p, HV_RDI) && get(&p, HV_RDI) <= get(&p, HV_RAX),
	    "page and MSR say the same");
	tap_note("%llu, %llu, %llu", (unsigned long long)get(&p, HV_RSI),
		 (unsigned long long)get(&p, HV_RDI), (unsigned long long)get(&p, HV_RAX));
	tap(!hypercall(p.fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0),
	    "a VMM sets the time");
	tap(*guest_u64(&p, TSC_PAGE) > sequence, "the page is another one");
	start_long(&p, times, times_end);
	comes_through(&p);
	tap(get(&p, HV_RSI) >= 1ull << 40 && get(&p, HV_RSI) <= get(&p, HV_RDI) &&
	    get(&p, HV_RDI) <= get(&p, HV_RAX) && get(&p, HV_RAX) < (1ull << 40) + 10000000,
	    "page and MSR go on from there");
	tap(property(&p, HV_PROP_REFERENCE_TIME) >= get(&p, HV_RAX), "and so does the property");
	partition_close(&p);
}

struct runner {
	struct partition *vp;
	pthread_t thread;
	volatile bool ended;
};

static void *run_one(void *argument)
{
	struct runner *runner = argument;

	run(runner->vp);
	runner->ended = true;
	return NULL;
}

static void start(struct runner *runner, struct partition *vp)
{
	*runner = (struct runner){ .vp = vp };
	pthread_create(&runner->thread, NULL, run_one, runner);
}

static bool waited(volatile bool *what, int ms)
{
	struct timespec tick = { .tv_nsec = 5000000 };

	for (; ms > 0 && !*what; ms -= 5)
		nanosleep(&tick, NULL);
	return *what;
}

static void assert_interrupt(struct partition *p, uint32_t index)
{
	struct hv_assert_interrupt in = { .destination = index, .vector = VECTOR };

	hypercall(p->fd, HV_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0);
}

static void idle(void)
{
	struct partition p;
	struct runner runner;

	partition_open_as(&p, LIKE_QEMU);
	/* Its APIC has to be on. */
	start_long(&p, halts, halts_end);
	run_to(&p, HV_MSG_IO_PORT, "a VP switches its APIC on");
	start_long(&p, ask_msr, ask_msr_end);
	set(&p, HV_RCX, MSR_IDLE);
	start(&runner, &p);
	tap(!waited(&runner.ended, 300), "it waits in RDMSR of the idle MSR, interrupts off");
	assert_interrupt(&p, 0);
	tap(waited(&runner.ended, 10000), "an interrupt ends that");
	pthread_join(runner.thread, NULL);
	tap(p.message.type == HV_MSG_IO_PORT && p.message.header.rip == CODE + 2,
	    "the interrupt is not delivered");
	start_long(&p, ask_msr, ask_msr_end);
	set(&p, HV_RCX, MSR_IDLE);
	start(&runner, &p);
	tap(waited(&runner.ended, 10000), "with one pending it does not wait at all");
	pthread_join(runner.thread, NULL);
	partition_close(&p);
}

static void several(void)
{
	struct partition p, other;
	struct runner runner;
	uint64_t *input, counted;

	partition_open_as(&p, LIKE_QEMU);
	other = another_vp(&p, 1);
	if (other.vp < 0)
		tap_bail_out("VP 1: %s", strerror(errno));
	set(&other, HV_ACTIVITY, 0);
	tap_equal("the index of VP 1", msr(&other, MSR_VP_INDEX), 1);
	write_msr(&other, MSR_GUEST_OS_ID, 1);
	write_msr(&other, MSR_HYPERCALL, HYPERCALL_PAGE | 1);

	start_long(&other, spins, spins_end);
	run_to(&other, HV_MSG_IO_PORT, "VP 1 is about to spin");
	skip_instruction(&other);
	start(&runner, &other);
	while (!*(volatile uint64_t *)guest_u64(&p, 0x5000))
		sched_yield();
	input = guest_u64(&p, INPUT);
	input[1] = 2;
	input[2] = 3;
	/* The code of VP 1 is kept. */
	start_long(&p, spins, spins_end);
	memcpy(p.memory + CODE + 0x100, call_page, call_page_end - call_page);
	set(&p, HV_RIP, CODE + 0x100);
	set(&p, HV_RBX, HYPERCALL_PAGE);
	set(&p, HV_RCX, FLUSH_SPACE);
	set(&p, HV_RDX, INPUT);
	tap(comes_through(&p) && !get(&p, HV_RAX), "VP 0 has both flush their translations");
	set(&p, HV_RIP, CODE + 0x100);
	set(&p, HV_RCX, FLUSH_LIST | REPS(4));
	tap(comes_through(&p) && get(&p, HV_RAX) == REPS(4), "or some of them: all are done");
	counted = *(volatile uint64_t *)guest_u64(&p, 0x5000);
	while (*(volatile uint64_t *)guest_u64(&p, 0x5000) == counted)
		sched_yield();
	tap(!runner.ended, "VP 1 runs on");
	set(&p, HV_RIP, CODE + 0x100);
	set(&p, HV_RCX, SEND_IPI | FAST);
	set(&p, HV_RDX, 8);
	tap(comes_through(&p) && get(&p, HV_RAX) == 5, "an IPI with a vector that is none: status 5");
	do
		pthread_kill(runner.thread, SIGUSR1);
	while (!waited(&runner.ended, 50));
	pthread_join(runner.thread, NULL);
	close(other.vp);
	partition_close(&p);
}

static void ipi(void)
{
	struct partition p, other;
	struct runner runner;

	partition_open_as(&p, LIKE_QEMU);
	other = another_vp(&p, 1);
	set(&other, HV_ACTIVITY, 0);
	write_msr(&p, MSR_GUEST_OS_ID, 1);
	write_msr(&p, MSR_HYPERCALL, HYPERCALL_PAGE | 1);
	memcpy(p.memory + CODE + 0x900, fault, fault_end - fault);
	set_gate(&p, VECTOR, 0x900);
	start_long(&other, halts, halts_end);
	run_to(&other, HV_MSG_IO_PORT, "VP 1 is about to halt");
	skip_instruction(&other);
	start(&runner, &other);
	tap(!waited(&runner.ended, 200), "it halts");
	memcpy(p.memory + CODE + 0x100, call_page, call_page_end - call_page);
	set(&p, HV_RIP, CODE + 0x100);
	set(&p, HV_RBX, HYPERCALL_PAGE);
	set(&p, HV_RCX, SEND_IPI | FAST);
	set(&p, HV_RDX, VECTOR);
	set(&p, 0x20008, 2);
	tap(comes_through(&p) && !get(&p, HV_RAX), "VP 0 sends it an IPI by hypercall");
	tap(waited(&runner.ended, 10000) && other.message.type == HV_MSG_IO_PORT &&
	    other.message.port.port == 0x11, "VP 1 gets it");
	pthread_join(runner.thread, NULL);
	close(other.vp);
	partition_close(&p);
}

static void nothing(int number)
{
}

int main(void)
{
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = nothing }, NULL);
	need_partitions();
	without();
	announced();
	hypercall_page();
	reference_time();
	idle();
	ipi();
	several();
	return tap_finish();
}
