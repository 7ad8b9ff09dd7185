/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For payloads in C, which run in 64-bit mode. main() checks things and returns; its results are
 * lines "ok TEXT" and "not ok TEXT", and the run ends with status 1, or 3 if a check failed.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COM1		0x3f8
#define EXIT_PORT	0xf4
#define LAPIC		0xfee00000ull
#define IOAPIC		0xfec00000ull

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* What trap() finds on the stack. */
struct frame {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

extern u32 loader_magic, loader_info;
extern volatile u64 idt[512], pml4[512], pdpt[512], pd[2048], gdt[];

int main(void);

static inline u8 inb(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u32 inl(u16 port)
{
	u32 value;

	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(u16 port, u16 value)
{
	asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

struct cpuid { u32 a, b, c, d; };

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;

	asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
		     : "a"(leaf), "c"(subleaf));
	return r;
}

#define READ_REGISTER(name) static inline u64 read_##name(void)	\
{								\
	u64 value;						\
	asm volatile("mov %%" #name ", %0" : "=r"(value));	\
	return value;						\
}
#define WRITE_REGISTER(name) static inline void write_##name(u64 value)	\
{									\
	asm volatile("mov %0, %%" #name : : "r"(value) : "memory");	\
}
READ_REGISTER(cr0) WRITE_REGISTER(cr0)
READ_REGISTER(cr2) WRITE_REGISTER(cr2)
READ_REGISTER(cr3) WRITE_REGISTER(cr3)
READ_REGISTER(cr4) WRITE_REGISTER(cr4)
READ_REGISTER(cr8) WRITE_REGISTER(cr8)
READ_REGISTER(dr6) WRITE_REGISTER(dr6)
READ_REGISTER(dr7) WRITE_REGISTER(dr7)
WRITE_REGISTER(dr0) WRITE_REGISTER(dr1) WRITE_REGISTER(dr2)

static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void nop(void) { asm volatile("nop" : : : "memory"); }

static inline u32 read32(u64 at) { return *(volatile u32 *)at; }
static inline void write32(u64 at, u32 value) { *(volatile u32 *)at = value; }

static bool failed;

static void put(char c)
{
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, c);
}

static void puts(const char *text)
{
	while (*text)
		put(*text++);
}

static void put_number(u64 value, unsigned int base)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		put(digits[--n]);
}

/* %s, %x and %u, the numbers of 64 bits. */
static __attribute__((unused)) void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	for (; *format; format++) {
		if (*format != '%') {
			put(*format);
			continue;
		}
		switch (*++format) {
		case 's':
			puts(va_arg(list, const char *));
			break;
		case 'x':
			puts("0x");
			put_number(va_arg(list, u64), 16);
			break;
		case 'u':
			put_number(va_arg(list, u64), 10);
			break;
		}
	}
	va_end(list);
}

/* A result. */
static bool check(bool holds, const char *text)
{
	puts(holds ? "ok " : "not ok ");
	puts(text);
	put('\n');
	failed |= !holds;
	return holds;
}

/* A result, with the values where they are not the same. */
static __attribute__((unused)) bool equal(u64 got, u64 wanted, const char *text)
{
	check(got == wanted, text);
	if (got != wanted)
		say("# got %x, wanted %x\n", got, wanted);
	return got == wanted;
}

void finish(void) __attribute__((noreturn));
void trap(struct frame *frame);

void finish(void)
{
	outl(EXIT_PORT, failed);
	puts("not ok the exit port ends the run\n");
	for (;;)
		asm volatile("cli; hlt");
}

/* Handlers of vectors; one that has none ends the run, unless TRY waits for it. */
static void (*volatile handler[256])(struct frame *);

/* The last fault that TRY caught, and where to go on after it. */
static volatile u64 resume __asm__("resume") __attribute__((used));
static volatile struct { int vector; u64 error, cr2; } caught;

void trap(struct frame *frame)
{
	if (frame->vector < 32 && resume) {
		caught.vector = frame->vector;
		caught.error = frame->error;
		caught.cr2 = read_cr2();
		frame->rip = resume;
		resume = 0;
		return;
	}
	if (handler[frame->vector]) {
		handler[frame->vector](frame);
		return;
	}
	say("not ok exception %u, error code %x, at %x, CR2 %x\n", frame->vector, frame->error,
	    frame->rip, read_cr2());
	failed = true;
	finish();
}

/* Runs an instruction and gives the vector of its exception, or -1. Operands as for asm(). */
#define TRY(code, ...) ({							\
	caught.vector = -1;							\
	asm volatile("push %%rax; lea 771f(%%rip), %%rax; mov %%rax, resume; pop %%rax\n"	\
		     code "\n771:" __VA_ARGS__);				\
	resume = 0;								\
	caught.vector;								\
})

static __attribute__((unused)) int try_rdmsr(u32 msr, u64 *value)
{
	u32 low = 0, high = 0;
	int vector = TRY("rdmsr", : "+a"(low), "+d"(high) : "c"(msr) : "memory");

	if (value)
		*value = (u64)high << 32 | low;
	return vector;
}

static __attribute__((unused)) int try_wrmsr(u32 msr, u64 value)
{
	return TRY("wrmsr", : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* The local APIC's registers in either mode. */
static bool x2apic;

static __attribute__((unused)) u64 apic_read(u32 offset)
{
	return x2apic ? rdmsr(0x800 + offset / 16) : read32(LAPIC + offset);
}

static __attribute__((unused)) void apic_write(u32 offset, u64 value)
{
	if (x2apic) {
		wrmsr(0x800 + offset / 16, value);
		return;
	}
	if (offset == 0x300)
		write32(LAPIC + 0x310, value >> 32 << 24);
	write32(LAPIC + offset, value);
}

static __attribute__((unused)) void eoi(void)
{
	apic_write(0xb0, 0);
}

static volatile u64 count[256];

/* A handler that counts. */
static __attribute__((unused)) void counts(struct frame *frame)
{
	count[frame->vector]++;
	if (frame->vector >= 32)
		eoi();
}
