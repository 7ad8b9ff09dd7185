// SPDX-License-Identifier: GPL-2.0
/*
 * Boots Linux under KVM with what it takes to reach init and say so: memory,
 * KVM's interrupt controllers and timer, a serial port and a clock's registers.
 * No ACPI tables, so the guest uses the legacy interrupts.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hvbench.h"
#include "kvm.h"

#define ZERO_PAGE	0x7000
#define COMMAND_LINE	0x20000
#define KERNEL		0x100000

static int vm;

static char *file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	char *content;

	if (fd < 0 || fstat(fd, &stat))
		die("%s: %s", path, strerror(errno));
	*size = stat.st_size;
	content = malloc(*size);
	for (size_t done = 0; content && done < *size;) {
		ssize_t got = read(fd, content + done, *size - done);

		if (got <= 0)
			die("%s: %s", path, got ? strerror(errno) : "shorter than it was");
		done += got;
	}
	if (!content)
		die("no memory for %s", path);
	close(fd);
	return content;
}

static void load(char *ram, size_t size, char **argv)
{
	struct boot_params *zero = (void *)(ram + ZERO_PAGE);
	size_t kernel_size, initrd_size, setup;
	char *kernel = file(argv[0], &kernel_size), *initrd = file(argv[1], &initrd_size);
	const struct setup_header *header = (void *)(kernel + 0x1f1);
	uint64_t at;

	if (kernel_size < 0x1000 || header->header != 0x53726448 || header->version < 0x206)
		die("%s is no bzImage", argv[0]);
	setup = (header->setup_sects ? header->setup_sects + 1 : 5) * 512;
	at = (size - initrd_size) & ~0xfffULL;
	if (KERNEL + header->init_size > at)
		die("the kernel and the initrd do not fit into the memory");
	memcpy(ram + KERNEL, kernel + setup, kernel_size - setup);
	memcpy(ram + at, initrd, initrd_size);
	strcpy(ram + COMMAND_LINE, argv[2]);

	zero->hdr = *header;
	zero->hdr.type_of_loader = 0xff;
	zero->hdr.code32_start = KERNEL;
	zero->hdr.ramdisk_image = at;
	zero->hdr.ramdisk_size = initrd_size;
	zero->hdr.cmd_line_ptr = COMMAND_LINE;
	zero->e820_entries = 2;
	zero->e820_table[0] = (struct boot_e820_entry){ 0, 0x9fc00, 1 };
	zero->e820_table[1] = (struct boot_e820_entry){ KERNEL, size - KERNEL, 1 };
	free(kernel);
	free(initrd);
}

static void enter(int vcpu)
{
	struct kvm_segment code = {
		.limit = ~0U, .selector = 0x10, .type = 0xb, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_segment data = code;
	struct kvm_regs regs = { .rip = KERNEL, .rsi = ZERO_PAGE, .rflags = 2 };
	/* IA32_MISC_ENABLE with fast strings on, as firmware leaves it. */
	struct { struct kvm_msrs list; struct kvm_msr_entry entry; } msrs = {
		.list = { .nmsrs = 1 },
		.entry = { .index = 0x1a0, .data = 1 },
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_SET_MSRS, &msrs) != 1)
		die("KVM_SET_MSRS: %s", strerror(errno));
	data.selector = 0x18;
	data.type = 3;
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		die("KVM_GET_SREGS: %s", strerror(errno));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs))
		die("KVM_SET_SREGS: %s", strerror(errno));
}

/* A 16550 that is always ready and never receives. */
static struct { uint8_t ier, lcr, mcr, scratch, dll, dlh, pending; } uart;

static void uart_line(void)
{
	struct kvm_irq_level line = { .irq = 4, .level = (uart.ier & 2) && uart.pending };

	if (ioctl(vm, KVM_IRQ_LINE, &line))
		die("KVM_IRQ_LINE: %s", strerror(errno));
}

static void uart_write(unsigned int reg, uint8_t value)
{
	switch (reg) {
	case 0:
		if (uart.lcr & 0x80) {
			uart.dll = value;
		} else {
			if (!(uart.mcr & 0x10) && write(1, &value, 1) != 1)
				exit(0);	/* nobody listens any more */
			uart.pending = 1;
			uart_line();
		}
		break;
	case 1:
		if (uart.lcr & 0x80) {
			uart.dlh = value;
		} else {
			uart.pending |= !(uart.ier & 2) && (value & 2);
			uart.ier = value & 0xf;
			uart_line();
		}
		break;
	case 3: uart.lcr = value; break;
	case 4: uart.mcr = value & 0x1f; break;
	case 7: uart.scratch = value; break;
	}
}

static uint8_t uart_read(unsigned int reg)
{
	switch (reg) {
	case 0: return uart.lcr & 0x80 ? uart.dll : 0;
	case 1: return uart.lcr & 0x80 ? uart.dlh : uart.ier;
	case 2:
		if ((uart.ier & 2) && uart.pending) {
			uart.pending = 0;
			uart_line();
			return 0xc2;
		}
		return 0xc1;
	case 3: return uart.lcr;
	case 4: return uart.mcr;
	case 5: return 0x60;
	case 6:		/* in loopback, what MCR says */
		return uart.mcr & 0x10 ? (uart.mcr & 0xc) << 4 | (uart.mcr & 2) << 3 | (uart.mcr & 1) << 5 : 0xb0;
	default: return uart.scratch;
	}
}

/* The clock stands still on a day in 2026; Linux only wants it to be sane. */
static uint8_t cmos_read(uint8_t index)
{
	static const uint8_t content[14] = {
		0x00, 0, 0x00, 0, 0x12, 0, 0x04, 0x01, 0x01, 0x26, 0x26, 0x02, 0, 0x80,
	};

	return index < sizeof(content) ? content[index] : index == 0x32 ? 0x20 : 0;
}

static void answer_io(struct kvm_run *run)
{
	static uint8_t cmos_index;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		unsigned int port = run->io.port;
		int out = run->io.direction == KVM_EXIT_IO_OUT;

		if (!out)
			memset(data, 0xff, run->io.size);
		if (port >= 0x3f8 && port <= 0x3ff) {
			if (out)
				uart_write(port - 0x3f8, *data);
			else
				*data = uart_read(port - 0x3f8);
		} else if (port == 0x70 && out) {
			cmos_index = *data & 0x7f;
		} else if (port == 0x71 && !out) {
			*data = cmos_read(cmos_index);
		}
	}
}

int boot_kvm(int argc, char **argv)
{
	size_t size = strtoul(argv[3], NULL, 10) << 20;
	char *ram = guest_memory(size);
	struct kvm_run *run;
	int system, vcpu;

	(void)argc;
	vm = kvm_create(&system);
	load(ram, size, argv);
	kvm_map(vm, 0, 0, ram, size);
	vcpu = kvm_processor(system, vm, &run);
	enter(vcpu);
	for (;;) {
		if (ioctl(vcpu, KVM_RUN, NULL) && errno != EINTR)
			die("KVM_RUN: %s", strerror(errno));
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			answer_io(run);
			break;
		case KVM_EXIT_MMIO:
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			break;
		case KVM_EXIT_INTR:
			break;
		default:
			die("the guest ended: KVM's exit reason %u", run->exit_reason);
		}
	}
}
