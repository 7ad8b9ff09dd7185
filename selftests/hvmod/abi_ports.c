// SPDX-License-Identifier: GPL-2.0
/* Intercepts of port instructions, in real mode and in long mode. */
#include "partition.h"

GUEST_CODE(16, real_ports,
	"mov $0x11223344, %eax\n"
	"mov $0x1234, %dx\n"
	"outb %al, %dx\n"
	"outw %ax, %dx\n"
	"outl %eax, %dx\n"
	"outb %al, $0x80\n"
	"inb %dx, %al\n"
	"mov %eax, 0x4000\n"
	"inw %dx, %ax\n"
	"mov %eax, 0x4004\n"
	"inl %dx, %eax\n"
	"mov %eax, 0x4008\n"
	"outb %al, $0xff\n");

GUEST_CODE(16, string_ports,
	"cld\n"
	"mov $0x3000, %si\n"
	"mov $0x3800, %di\n"
	"mov $4, %cx\n"
	"mov $0x3f8, %dx\n"
	"outsb\n"
	"rep outsw\n"
	"insl\n"
	"rep insb\n"
	"outb %al, $0xff\n");

GUEST_CODE(64, long_ports,
	"movabs $0xfedcba9876543210, %rax\n"
	"mov $0x5678, %edx\n"
	"outl %eax, %dx\n"
	"inb %dx, %al\n"
	"mov %rax, 0x4000\n"
	"inl %dx, %eax\n"
	"mov %rax, 0x4008\n"
	"outb %al, $0xff\n");

/* Every port, each once. */
GUEST_CODE(16, all_ports,
	"xor %dx, %dx\n"
	"1: outb %al, %dx\n"
	"inc %dx\n"
	"jnz 1b\n"
	"hlt\n");

static bool is_port(struct partition *p, int port, int size, int access)
{
	struct hv_port_message *m = &p->message.port;
	bool right = m->port == port && m->size == size && m->header.access == access;

	if (!right)
		tap_note("port %#x size %d access %d", m->port, m->size, m->header.access);
	return right;
}

static void out(struct partition *p, int port, int size, uint64_t rax, const char *name)
{
	if (!run_to(p, HV_MSG_IO_PORT, name))
		return;
	tap(is_port(p, port, size, HV_WRITE), "%s: port, size, direction", name);
	tap(!p->message.port.string && !p->message.port.rep, "%s: is no string", name);
	tap_equal("  RAX is told", p->message.port.rax, rax);
	skip_instruction(p);
}

static void in(struct partition *p, int port, int size, uint64_t rax, const char *name)
{
	struct hv_assoc answer[] = { PLAIN(HV_RAX, rax), PLAIN(HV_RIP, 0) };

	if (!run_to(p, HV_MSG_IO_PORT, name))
		return;
	tap(is_port(p, port, size, HV_READ), "%s: port, size, direction", name);
	answer[1].value.u64 = p->message.header.rip + p->message.header.length;
	set_registers(p, answer, 2);
}

static void real_mode(void)
{
	struct partition p;

	partition_open(&p);
	start_real(&p, real_ports, real_ports_end, 0);
	out(&p, 0x1234, 1, 0x11223344, "real mode: OUT of a byte");
	out(&p, 0x1234, 2, 0x11223344, "real mode: OUT of a word");
	out(&p, 0x1234, 4, 0x11223344, "real mode: OUT of a long");
	out(&p, 0x80, 1, 0x11223344, "real mode: OUT to an immediate port");
	in(&p, 0x1234, 1, 0x112233ab, "real mode: IN of a byte");
	in(&p, 0x1234, 2, 0x1122cdef, "real mode: IN of a word");
	in(&p, 0x1234, 4, 0x89abcdef, "real mode: IN of a long");
	if (run_to(&p, HV_MSG_IO_PORT, "real mode: the end")) {
		tap_equal("real mode: header: not in protected mode, CPL 0",
			  p.message.header.state & 0x17, 0);
		tap_equal("real mode: header: CS", p.message.header.cs.selector, 0);
	}
	tap_equal("real mode: the byte arrived", *(uint32_t *)(p.memory + RESULTS), 0x112233ab);
	tap_equal("real mode: the word arrived", *(uint32_t *)(p.memory + RESULTS + 4), 0x1122cdef);
	tap_equal("real mode: the long arrived", *(uint32_t *)(p.memory + RESULTS + 8), 0x89abcdef);
	partition_close(&p);
}

/* One string instruction: what is told, and the bytes of the instruction. */
static void string(struct partition *p, int size, int access, bool rep, const char *bytes,
		   const char *name)
{
	struct hv_port_message *m = &p->message.port;

	if (!run_to(p, HV_MSG_IO_PORT, name))
		return;
	tap(is_port(p, 0x3f8, size, access) && m->string && m->rep == rep,
	    "%s: port, size, direction, REP", name);
	tap(m->bytes_count >= strlen(bytes) && !memcmp(m->bytes, bytes, strlen(bytes)),
	    "%s: the instruction's bytes", name);
	tap(m->rcx == 4 && m->rsi == 0x3000 && m->rdi == 0x3800, "%s: RCX, RSI, RDI", name);
	skip_instruction(p);
}

static void strings(void)
{
	struct partition p;

	partition_open(&p);
	start_real(&p, string_ports, string_ports_end, 0);
	string(&p, 1, HV_WRITE, false, "\x6e", "OUTSB");
	string(&p, 2, HV_WRITE, true, "\xf3\x6f", "REP OUTSW");
	string(&p, 4, HV_READ, false, "\x66\x6d", "INSL");
	string(&p, 1, HV_READ, true, "\xf3\x6c", "REP INSB");
	run_to(&p, HV_MSG_IO_PORT, "after the strings");
	partition_close(&p);
}

static void long_mode(void)
{
	struct partition p;

	partition_open(&p);
	start_long(&p, long_ports, long_ports_end);
	out(&p, 0x5678, 4, 0xfedcba9876543210, "long mode: OUT of a long");
	tap_equal("long mode: header: protected, long, CPL 0", p.message.header.state & 0x17, 0x14);
	in(&p, 0x5678, 1, 0xfedcba98765432ee, "long mode: IN of a byte");
	in(&p, 0x5678, 4, 0x0000000087654321, "long mode: IN of a long");
	run_to(&p, HV_MSG_IO_PORT, "long mode: the end");
	tap_equal("long mode: a byte leaves the rest", *guest_u64(&p, RESULTS), 0xfedcba98765432ee);
	tap_equal("long mode: a long clears the upper half", *guest_u64(&p, RESULTS + 8), 0x87654321);
	partition_close(&p);
}

static void storm(void)
{
	struct partition p;
	unsigned int port;

	partition_open(&p);
	start_real(&p, all_ports, all_ports_end, 0);
	for (port = 0; port < 0x10000; port++) {
		if (run(&p) || p.message.type != HV_MSG_IO_PORT || p.message.port.port != port)
			break;
		skip_instruction(&p);
	}
	tap_equal("every port is an intercept, in its turn", port, 0x10000);
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	real_mode();
	strings();
	long_mode();
	storm();
	return tap_finish();
}
