// SPDX-License-Identifier: GPL-2.0
/* The guest under KVM. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "hvbench.h"
#include "kvm.h"

static struct kvm_run *page;
static int vcpu, stats;
static off_t exits_at;

/* A VM with KVM's own interrupt controllers and timer, as VMMs have it. */
int kvm_create(int *system)
{
	struct kvm_pit_config pit = { .flags = 0 };
	int vm;

	*system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (*system < 0)
		die("/dev/kvm: %s", strerror(errno));
	vm = ioctl(*system, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM: %s", strerror(errno));
	if (ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL))
		die("KVM_SET_TSS_ADDR: %s", strerror(errno));
	if (ioctl(vm, KVM_CREATE_IRQCHIP, 0))
		die("KVM_CREATE_IRQCHIP: %s", strerror(errno));
	if (ioctl(vm, KVM_CREATE_PIT2, &pit))
		die("KVM_CREATE_PIT2: %s", strerror(errno));
	return vm;
}

void kvm_map(int vm, int slot, uint64_t gpa, void *memory, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)memory,
	};

	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		die("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));
}

/* A processor with all that KVM supports. */
int kvm_processor(int system, int vm, struct kvm_run **run)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid;
	int fd = ioctl(vm, KVM_CREATE_VCPU, 0), size;

	if (fd < 0)
		die("KVM_CREATE_VCPU: %s", strerror(errno));
	cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	if (!cpuid)
		die("no memory");
	cpuid->nent = ENTRIES;
	if (ioctl(system, KVM_GET_SUPPORTED_CPUID, cpuid))
		die("KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	for (unsigned int i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx |= 1 << 24 | 1U << 31; /* TSC deadline, hypervisor */
	if (ioctl(fd, KVM_SET_CPUID2, cpuid))
		die("KVM_SET_CPUID2: %s", strerror(errno));
	free(cpuid);
	size = ioctl(system, KVM_GET_VCPU_MMAP_SIZE, 0);
	*run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (size < 0 || *run == MAP_FAILED)
		die("the page of KVM_RUN: %s", strerror(errno));
	return fd;
}

/* Finds the counter of exits among the processor's statistics. */
static void find_exits(void)
{
	struct kvm_stats_header header;
	size_t size;

	stats = ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	if (stats < 0 || pread(stats, &header, sizeof(header), 0) != sizeof(header))
		die("KVM_GET_STATS_FD: %s", strerror(errno));
	size = sizeof(struct kvm_stats_desc) + header.name_size;
	for (uint32_t i = 0; i < header.num_desc; i++) {
		char buffer[512];
		struct kvm_stats_desc *desc = (void *)buffer;

		if (size > sizeof(buffer) ||
		    pread(stats, buffer, size, header.desc_offset + i * size) != (ssize_t)size)
			die("reading KVM's statistics: %s", strerror(errno));
		if (!strcmp(desc->name, "exits")) {
			exits_at = header.data_offset + desc->offset;
			return;
		}
	}
	die("KVM has no counter of exits");
}

static void create(void *ram, void *reset_page)
{
	int system, vm = kvm_create(&system);

	kvm_map(vm, 0, 0, ram, GUEST_RAM);
	kvm_map(vm, 1, RESET_PAGE, reset_page, 0x1000);
	vcpu = kvm_processor(system, vm, &page);
	find_exits();
}

static void run(uint32_t answer, struct event *event)
{
	uint32_t *data = (void *)((char *)page + page->io.data_offset);

	if (page->exit_reason == KVM_EXIT_IO && page->io.direction == KVM_EXIT_IO_IN)
		*data = answer;
	else if (page->exit_reason == KVM_EXIT_MMIO)
		memcpy(page->mmio.data, &answer, sizeof(answer));
	if (ioctl(vcpu, KVM_RUN, NULL))
		die("KVM_RUN: %s", strerror(errno));
	switch (page->exit_reason) {
	case KVM_EXIT_IO:
		data = (void *)((char *)page + page->io.data_offset);
		event->kind = page->io.direction == KVM_EXIT_IO_IN ? EVENT_IN : EVENT_OUT;
		event->port = page->io.port;
		event->value = *data;
		return;
	case KVM_EXIT_MMIO:
		event->kind = EVENT_READ;
		return;
	case KVM_EXIT_FAIL_ENTRY:
		die("the VM entry failed for reason %#llx",
		    (unsigned long long)page->fail_entry.hardware_entry_failure_reason);
	default:
		die("KVM_RUN ended for reason %u", page->exit_reason);
	}
}

static struct exits exits(void)
{
	struct exits now = { 0 };

	if (pread(stats, &now.guest, sizeof(now.guest), exits_at) != sizeof(now.guest))
		die("reading KVM's counter of exits: %s", strerror(errno));
	return now;
}

const struct interface kvm = { "kvm", create, run, exits };
