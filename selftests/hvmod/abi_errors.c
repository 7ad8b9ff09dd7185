// SPDX-License-Identifier: GPL-2.0
/*
 * Every call, made wrongly. The errno that is wanted is that of the kernel's driver
 * (drivers/hv/mshv_root_main.c); after the storm a partition must still run.
 */
#define _GNU_SOURCE
#include <sys/eventfd.h>

#include "partition.h"

/* An address at which no user may be, and one where nothing is. */
#define KERNEL_ADDRESS	((void *)0xffff888000000000)
#define NOWHERE		((void *)0x1000)

static struct partition p;

static void fails(int fd, unsigned long request, const void *argument, int wanted,
		  const char *name)
{
	int result = ioctl(fd, request, argument);
	int error = result < 0 ? errno : 0;

	if (!tap(error == wanted, "%s: %s", name, strerrorname_np(wanted)))
		tap_note("got %s", error ? strerrorname_np(error) : "success");
	if (result > 2)
		close(result);
}

/* The calls of each kind of file, with the size of what they take. */
struct call {
	const char *name;
	unsigned long request;
};

static const struct call device_calls[] = {
	{ "CREATE_PARTITION", MSHV_CREATE_PARTITION },
	{ "ROOT_HVCALL on the device", MSHV_ROOT_HVCALL },
	{ "HVMOD_GET_CAPS", HVMOD_GET_CAPS },
	{ "HVMOD_GET_INFO", HVMOD_GET_INFO },
	{ "HVMOD_GET_LP_INFO", HVMOD_GET_LP_INFO },
	{ "HVMOD_GET_PARTITION_INFO", HVMOD_GET_PARTITION_INFO },
	{ "HVMOD_READ_LOG", HVMOD_READ_LOG },
	{ "HVMOD_GET_VP_INFO", HVMOD_GET_VP_INFO },
};

static const struct call partition_calls[] = {
	{ "CREATE_VP", MSHV_CREATE_VP },
	{ "SET_GUEST_MEMORY", MSHV_SET_GUEST_MEMORY },
	{ "IRQFD", MSHV_IRQFD },
	{ "IOEVENTFD", MSHV_IOEVENTFD },
	{ "SET_MSI_ROUTING", MSHV_SET_MSI_ROUTING },
	{ "GET_GPAP_ACCESS_BITMAP", MSHV_GET_GPAP_ACCESS_BITMAP },
	{ "ROOT_HVCALL on a partition", MSHV_ROOT_HVCALL },
};

static const struct call vp_calls[] = {
	{ "GET_VP_STATE", MSHV_GET_VP_STATE },
	{ "SET_VP_STATE", MSHV_SET_VP_STATE },
	{ "ROOT_HVCALL on a VP", MSHV_ROOT_HVCALL },
};

static unsigned long resized(unsigned long request, int by)
{
	return _IOC(_IOC_DIR(request), _IOC_TYPE(request), _IOC_NR(request),
		    _IOC_SIZE(request) + by);
}

static void pointers_and_sizes(int fd, const struct call *calls, int count)
{
	static uint8_t zeros[8192];
	uint8_t *edge = some_memory(2 * PAGE), *constant = some_memory(PAGE);
	char name[100];
	int i;

	/* Memory ends at `edge`; what is at `constant` cannot be written. */
	munmap(edge + PAGE, PAGE);
	edge += PAGE;
	mprotect(constant, PAGE, PROT_READ);
	for (i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s half of which is not there", calls[i].name);
		fails(fd, calls[i].request, edge - _IOC_SIZE(calls[i].request) / 2, EFAULT, name);
		if (calls[i].request == HVMOD_GET_VP_INFO) {
			struct hvmod_partition_info info = { 0 };

			/* Of a partition that there is. */
			ioctl(fd, HVMOD_GET_PARTITION_INFO, &info);
			mprotect(constant, PAGE, PROT_READ | PROT_WRITE);
			memcpy(constant, &info.id, sizeof(info.id));
			mprotect(constant, PAGE, PROT_READ);
		}
		if (_IOC_TYPE(calls[i].request) == HVMOD_IOCTL) {
			snprintf(name, sizeof(name), "%s where it cannot be written", calls[i].name);
			fails(fd, calls[i].request, constant, EFAULT, name);
		}
		snprintf(name, sizeof(name), "%s with a null pointer", calls[i].name);
		fails(fd, calls[i].request, NULL, EFAULT, name);
		snprintf(name, sizeof(name), "%s with an address of nothing", calls[i].name);
		fails(fd, calls[i].request, NOWHERE, EFAULT, name);
		snprintf(name, sizeof(name), "%s with an address of the kernel", calls[i].name);
		fails(fd, calls[i].request, KERNEL_ADDRESS, EFAULT, name);
		snprintf(name, sizeof(name), "%s of a greater size", calls[i].name);
		fails(fd, resized(calls[i].request, 8), zeros, ENOTTY, name);
		snprintf(name, sizeof(name), "%s of a lesser size", calls[i].name);
		fails(fd, resized(calls[i].request, -4), zeros, ENOTTY, name);
	}
	munmap(edge - PAGE, PAGE);
	munmap(constant, PAGE);
}

static void files_and_numbers(void)
{
	static uint8_t zeros[8192];
	int null = open("/dev/null", O_RDWR);
	unsigned int number;
	int wrong = 0;

	fails(null, MSHV_CREATE_PARTITION, zeros, ENOTTY, "CREATE_PARTITION on another device");
	fails(p.device, MSHV_CREATE_VP, zeros, ENOTTY, "CREATE_VP on the device");
	fails(p.device, MSHV_RUN_VP, zeros, ENOTTY, "RUN_VP on the device");
	fails(p.fd, MSHV_RUN_VP, zeros, ENOTTY, "RUN_VP on a partition");
	fails(p.fd, MSHV_GET_VP_STATE, zeros, ENOTTY, "GET_VP_STATE on a partition");
	fails(p.fd, HVMOD_GET_INFO, zeros, ENOTTY, "HVMOD_GET_INFO on a partition");
	fails(p.vp, MSHV_CREATE_VP, zeros, ENOTTY, "CREATE_VP on a VP");
	fails(p.vp, MSHV_SET_GUEST_MEMORY, zeros, ENOTTY, "SET_GUEST_MEMORY on a VP");
	fails(p.vp, MSHV_IRQFD, zeros, ENOTTY, "IRQFD on a VP");
	fails(-1, MSHV_RUN_VP, zeros, EBADF, "RUN_VP on no file");
	close(null);

	/* Sizes that no call has. */
	for (number = 0; number < 256; number++) {
		wrong += ioctl(p.device, _IOWR(MSHV_IOCTL, number, char[1000]), zeros) != -1 || errno != ENOTTY;
		wrong += ioctl(p.device, _IOWR(HVMOD_IOCTL, number, char[1000]), zeros) != -1 || errno != ENOTTY;
		wrong += ioctl(p.fd, _IOWR(MSHV_IOCTL, number, char[1000]), zeros) != -1 || errno != ENOTTY;
		wrong += ioctl(p.vp, _IOWR(MSHV_IOCTL, number, char[1000]), zeros) != -1 || errno != ENOTTY;
	}
	tap_equal("unknown numbers are all ENOTTY", wrong, 0);
	tap(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.vp, 3 * PAGE) == MAP_FAILED && errno == EINVAL,
	    "mmap of a VP past its pages: EINVAL");
	tap(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.vp, 2 * PAGE) == MAP_FAILED && errno == ENODEV,
	    "mmap of a VP's GHCB, which it has not: ENODEV");
	tap(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.fd, 0) == MAP_FAILED && errno == ENODEV,
	    "mmap of a partition: ENODEV");
}

static void create(void)
{
	struct mshv_create_partition first = { .pt_flags = 1 << MSHV_PT_BIT_COUNT };
	struct mshv_create_partition_v2 second = {
		.pt_flags = 1 << MSHV_PT_BIT_LAPIC | 1 << MSHV_PT_BIT_CPU_AND_XSAVE_FEATURES,
		.pt_num_cpu_fbanks = MSHV_NUM_CPU_FEATURES_BANKS,
	};
	struct mshv_create_vp vp = { 0 };
	struct mshv_user_mem_region region = { 0 };
	uint8_t *edge = some_memory(2 * PAGE);
	int fd;

	fails(p.device, MSHV_CREATE_PARTITION, &first, EINVAL, "CREATE_PARTITION with an unknown flag");
	first = (struct mshv_create_partition){ .pt_isolation = MSHV_PT_ISOLATION_COUNT };
	fails(p.device, MSHV_CREATE_PARTITION, &first, EINVAL, "CREATE_PARTITION with an unknown isolation");
	second.pt_num_cpu_fbanks = 1;
	fails(p.device, MSHV_CREATE_PARTITION, &second, EINVAL, "CREATE_PARTITION with one feature bank");
	second.pt_num_cpu_fbanks = 2;
	second.pt_rsvd[3] = 1;
	fails(p.device, MSHV_CREATE_PARTITION, &second, EINVAL, "CREATE_PARTITION with a reserved byte");
	second.pt_rsvd[3] = 0;
	second.pt_rsvd1[1] = 1;
	fails(p.device, MSHV_CREATE_PARTITION, &second, EINVAL, "CREATE_PARTITION with a reserved word");
	second.pt_rsvd1[1] = 0;
	fd = ioctl(p.device, MSHV_CREATE_PARTITION, &second);
	tap(fd >= 0, "CREATE_PARTITION of the second kind succeeds");
	close(fd);

	/* The longer structure, with only the shorter one readable. */
	munmap(edge + PAGE, PAGE);
	memcpy(edge + PAGE - sizeof(first), &second, sizeof(first));
	fails(p.device, MSHV_CREATE_PARTITION, edge + PAGE - sizeof(first), EFAULT,
	      "CREATE_PARTITION with half of its argument");

	first = (struct mshv_create_partition){ .pt_flags = 1 << MSHV_PT_BIT_LAPIC };
	fd = ioctl(p.device, MSHV_CREATE_PARTITION, &first);
	fails(fd, MSHV_CREATE_VP, &vp, EIO, "CREATE_VP before the partition is initialized");
	region = (struct mshv_user_mem_region){ .size = PAGE, .userspace_addr = (uintptr_t)edge };
	fails(fd, MSHV_SET_GUEST_MEMORY, &region, EIO, "SET_GUEST_MEMORY before it is initialized");
	region.userspace_addr = (uintptr_t)NOWHERE;
	fails(fd, MSHV_SET_GUEST_MEMORY, &region, EINVAL, "SET_GUEST_MEMORY of nothing before that");
	tap(!ioctl(fd, MSHV_INITIALIZE_PARTITION), "INITIALIZE_PARTITION");
	tap(!ioctl(fd, MSHV_INITIALIZE_PARTITION), "INITIALIZE_PARTITION again changes nothing");
	close(fd);

	fails(p.fd, MSHV_CREATE_VP, &vp, EEXIST, "CREATE_VP of one that is there");
	vp.vp_index = 256;
	fails(p.fd, MSHV_CREATE_VP, &vp, EINVAL, "CREATE_VP past the last index");
	vp.vp_index = ~0u;
	fails(p.fd, MSHV_CREATE_VP, &vp, EINVAL, "CREATE_VP of index -1");
	fails(p.vp, MSHV_RUN_VP, NOWHERE, EFAULT, "RUN_VP with nowhere to write");
}

static void memory(void)
{
	uint8_t *area = some_memory(8 * PAGE);
	struct mshv_user_mem_region good = {
		.size = 2 * PAGE, .guest_pfn = 0x1000, .userspace_addr = (uintptr_t)area,
		.flags = WRITABLE,
	};
	struct mshv_user_mem_region region;
	int i;

#define WITH(field, value, wanted, name)					\
	do {									\
		region = good;							\
		region.field = value;						\
		fails(p.fd, MSHV_SET_GUEST_MEMORY, &region, wanted,		\
		      "SET_GUEST_MEMORY " name);				\
	} while (0)

	WITH(size, 0, EINVAL, "of nothing");
	WITH(size, PAGE + 1, EINVAL, "of a broken size");
	WITH(size, ~0ull & -PAGE, EINVAL, "of all there is");
	WITH(userspace_addr, (uintptr_t)area + 8, EINVAL, "at a broken address");
	WITH(userspace_addr, (uintptr_t)KERNEL_ADDRESS, EINVAL, "of the kernel's memory");
	WITH(userspace_addr, 0x1000, EINVAL, "of no memory");
	WITH(flags, 1 << MSHV_SET_MEM_BIT_COUNT, EINVAL, "with an unknown flag");
	for (i = 0; i < 7; i++)
		WITH(rsvd[i], 1, EINVAL, "with a reserved byte");
	WITH(guest_pfn, ~0ull, EINVAL, "past the last address");
	WITH(guest_pfn, 1ull << 36, EINVAL, "where no GPA is");
	WITH(guest_pfn, (1ull << 36) - 1, EINVAL, "across the last GPA");
	WITH(guest_pfn, 0, EEXIST, "over another region");
	WITH(guest_pfn, MEMORY_SIZE / PAGE - 1, EEXIST, "over the end of another region");
	WITH(flags, UNMAP, ENOENT, "to unmap where nothing is");
	good.flags = UNMAP;
	WITH(guest_pfn, ~0ull, ENOENT, "to unmap past the last address");
	WITH(userspace_addr, 0x1000, ENOENT, "to unmap what no memory is");
	WITH(size, 0, EINVAL, "to unmap nothing");
	good.flags = WRITABLE;
	tap(!ioctl(p.fd, MSHV_SET_GUEST_MEMORY, &good), "SET_GUEST_MEMORY that is right");
	WITH(flags, WRITABLE, EEXIST, "the same again");
	good.flags = UNMAP;
	WITH(size, PAGE, EINVAL, "to unmap a part");
	WITH(userspace_addr, (uintptr_t)area + PAGE, EINVAL, "to unmap other memory");
	WITH(guest_pfn, 0x1001, EINVAL, "to unmap from the middle");
	tap(!ioctl(p.fd, MSHV_SET_GUEST_MEMORY, &good), "SET_GUEST_MEMORY to unmap");
	WITH(flags, UNMAP, ENOENT, "to unmap again");
	munmap(area, 8 * PAGE);
#undef WITH
}

static void events(void)
{
	int event = eventfd(0, 0), file = open("/dev/null", O_RDWR);
	struct mshv_user_irqfd irqfd = { .fd = event, .flags = 1 << MSHV_IRQFD_BIT_COUNT };
	struct mshv_user_ioeventfd io = { .fd = event, .addr = 0x10000000, .len = 4 };
	struct {
		struct mshv_user_irq_table table;
		struct mshv_user_irq_entry entries[2];
	} routes = { .table.nr = 1 };

	fails(p.fd, MSHV_IRQFD, &irqfd, EINVAL, "IRQFD with an unknown flag");
	irqfd = (struct mshv_user_irqfd){ .fd = -1 };
	fails(p.fd, MSHV_IRQFD, &irqfd, EBADF, "IRQFD of no file");
	irqfd.fd = file;
	fails(p.fd, MSHV_IRQFD, &irqfd, EINVAL, "IRQFD of a file that is no eventfd");
	irqfd = (struct mshv_user_irqfd){ .fd = event, .resamplefd = -1,
					  .flags = 1 << MSHV_IRQFD_BIT_RESAMPLE };
	fails(p.fd, MSHV_IRQFD, &irqfd, EBADF, "IRQFD with no file to resample by");
	irqfd.resamplefd = event;
	fails(p.fd, MSHV_IRQFD, &irqfd, EINVAL, "IRQFD to resample what is not level-triggered");
	irqfd = (struct mshv_user_irqfd){ .fd = event, .gsi = 1 };
	tap(!ioctl(p.fd, MSHV_IRQFD, &irqfd), "IRQFD that is right");
	fails(p.fd, MSHV_IRQFD, &irqfd, EBUSY, "IRQFD of the same eventfd again");

	io.flags = 1 << MSHV_IOEVENTFD_BIT_COUNT;
	fails(p.fd, MSHV_IOEVENTFD, &io, EINVAL, "IOEVENTFD with an unknown flag");
	io.flags = 1 << MSHV_IOEVENTFD_BIT_PIO;
	fails(p.fd, MSHV_IOEVENTFD, &io, EOPNOTSUPP, "IOEVENTFD of a port");
	io.flags = 0;
	io.rsvd[2] = 1;
	fails(p.fd, MSHV_IOEVENTFD, &io, EINVAL, "IOEVENTFD with a reserved byte");
	io.rsvd[2] = 0;
	io.len = 3;
	fails(p.fd, MSHV_IOEVENTFD, &io, EINVAL, "IOEVENTFD of three bytes");
	io.len = 8;
	io.addr = ~0ull - 3;
	fails(p.fd, MSHV_IOEVENTFD, &io, EINVAL, "IOEVENTFD past the last address");
	io.addr = 0x10000000;
	io.fd = -1;
	fails(p.fd, MSHV_IOEVENTFD, &io, EBADF, "IOEVENTFD of no file");
	io.fd = event;
	io.flags = 1 << MSHV_IOEVENTFD_BIT_DEASSIGN;
	fails(p.fd, MSHV_IOEVENTFD, &io, ENOENT, "IOEVENTFD to remove what is not there");
	io.flags = 0;
	tap(!ioctl(p.fd, MSHV_IOEVENTFD, &io), "IOEVENTFD that is right");
	fails(p.fd, MSHV_IOEVENTFD, &io, EEXIST, "IOEVENTFD again");

	routes.table.rsvd = 1;
	fails(p.fd, MSHV_SET_MSI_ROUTING, &routes, EINVAL, "SET_MSI_ROUTING with a reserved word");
	routes.table.rsvd = 0;
	routes.table.nr = 5000;
	fails(p.fd, MSHV_SET_MSI_ROUTING, &routes, EINVAL, "SET_MSI_ROUTING of too many");
	routes.table.nr = 1;
	routes.entries[0].gsi = 4096;
	fails(p.fd, MSHV_SET_MSI_ROUTING, &routes, EINVAL, "SET_MSI_ROUTING of a number too great");
	routes.entries[0].gsi = 1;
	routes.entries[0].address_hi = 1;
	fails(p.fd, MSHV_SET_MSI_ROUTING, &routes, EINVAL, "SET_MSI_ROUTING to an upper address");
	routes.entries[0].address_hi = 0;
	routes.entries[1].gsi = 1;
	routes.table.nr = 2;
	fails(p.fd, MSHV_SET_MSI_ROUTING, &routes, EINVAL, "SET_MSI_ROUTING of one number twice");
	close(event);
	close(file);
}

static void states(void)
{
	uint8_t *page = some_memory(PAGE);
	struct mshv_get_set_vp_state good = { .buf_sz = PAGE, .buf_ptr = (uintptr_t)page };
	struct mshv_get_set_vp_state state;
	struct mshv_gpap_access_bitmap bitmap = { .page_count = 0, .bitmap_ptr = (uintptr_t)page };

#define WITH(field, value, wanted, name)					\
	do {									\
		state = good;							\
		state.field = value;						\
		fails(p.vp, MSHV_GET_VP_STATE, &state, wanted, "GET_VP_STATE " name);	\
		state = good;							\
		state.field = value;						\
		fails(p.vp, MSHV_SET_VP_STATE, &state, wanted, "SET_VP_STATE " name);	\
	} while (0)

	WITH(type, MSHV_VP_STATE_COUNT, EINVAL, "of an unknown kind");
	WITH(type, MSHV_VP_STATE_SIMP, EINVAL, "of SynIC messages");
	WITH(type, MSHV_VP_STATE_SIEFP, EINVAL, "of SynIC events");
	WITH(type, MSHV_VP_STATE_SYNTHETIC_TIMERS, EINVAL, "of synthetic timers");
	WITH(rsvd[1], 1, EINVAL, "with a reserved byte");
	WITH(buf_sz, 0, EINVAL, "with no room");
	WITH(buf_sz, 100, EINVAL, "with room for a part of a page");
	WITH(buf_ptr, (uintptr_t)page + 64, EINVAL, "at a broken address");
	WITH(buf_ptr, 0x1000, EFAULT, "where nothing is");
	WITH(buf_ptr, (uintptr_t)KERNEL_ADDRESS, EFAULT, "in the kernel's memory");
	good.type = MSHV_VP_STATE_XSAVE;
	WITH(buf_ptr, (uintptr_t)KERNEL_ADDRESS, EFAULT, "of the FPU in the kernel's memory");
	WITH(buf_ptr, -(uint64_t)PAGE, EFAULT, "up to the end of all addresses");
#undef WITH
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, EINVAL, "GET_GPAP_ACCESS_BITMAP of nothing");
	bitmap.page_count = 1;
	bitmap.access_type = MSHV_GPAP_ACCESS_TYPE_COUNT;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, EINVAL, "GET_GPAP_ACCESS_BITMAP of an unknown type");
	bitmap.access_type = MSHV_GPAP_ACCESS_TYPE_DIRTY;
	bitmap.page_count = 1ULL << 36;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, ENOMEM, "GET_GPAP_ACCESS_BITMAP of 2^36 pages");
	bitmap.page_count = ~0ull;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, ENOMEM, "GET_GPAP_ACCESS_BITMAP of 2^64 pages");
	bitmap.page_count = 2;
	bitmap.gpap_base = ~0ull;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, EINVAL, "GET_GPAP_ACCESS_BITMAP past the last page");
	bitmap.gpap_base = 0;
	bitmap.rsvd[5] = 1;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, EINVAL, "GET_GPAP_ACCESS_BITMAP with a reserved byte");
	bitmap.rsvd[5] = 0;
	bitmap.bitmap_ptr = 0;
	fails(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &bitmap, EINVAL, "GET_GPAP_ACCESS_BITMAP without a bitmap");
	munmap(page, PAGE);
}

static void hypercalls(void)
{
	uint64_t in[64] = { 0 }, out[64];
	struct mshv_root_hvcall good = {
		.code = HV_GET_PARTITION_PROPERTY, .in_sz = 16, .out_sz = 8,
		.in_ptr = (uintptr_t)in, .out_ptr = (uintptr_t)out,
	};
	struct mshv_root_hvcall call;
	struct hv_registers_header *header = (void *)in;
	int fds[] = { p.device, p.fd, p.vp };
	size_t i;

#define WITH(fd, field, value, wanted, name)					\
	do {									\
		call = good;							\
		call.field = value;						\
		fails(fd, MSHV_ROOT_HVCALL, &call, wanted, "ROOT_HVCALL " name);	\
	} while (0)

	for (i = 0; i < 3; i++) {
		WITH(fds[i], status, 1, EINVAL, "with a status");
		WITH(fds[i], rsvd[0], 1, EINVAL, "with a reserved byte");
		WITH(fds[i], in_ptr, 0, EINVAL, "without input");
		WITH(fds[i], in_sz, 7, EINVAL, "with too little input");
		WITH(fds[i], in_sz, 4097, EINVAL, "with too much input");
		WITH(fds[i], out_sz, 0, EINVAL, "with no room for output");
		WITH(fds[i], out_sz, 4097, EINVAL, "with too much output");
		WITH(fds[i], in_ptr, 0x1000, EFAULT, "with input of nothing");
		WITH(fds[i], code, HV_CREATE_PARTITION, EINVAL, "that is not passed through");
		WITH(fds[i], code, 0xffff, EINVAL, "that does not exist");
	}
	WITH(p.device, code, HV_GET_VP_REGISTERS, EINVAL, "on the device that is a partition's");
	WITH(p.vp, code, HV_SET_PARTITION_PROPERTY, EINVAL, "on a VP that is a partition's");

	good = (struct mshv_root_hvcall){
		.code = HV_GET_VP_REGISTERS, .reps = 1, .in_sz = 20, .out_sz = 16,
		.in_ptr = (uintptr_t)in, .out_ptr = (uintptr_t)out,
	};
	*(uint32_t *)(header + 1) = HV_RAX;
	call = good;
	tap(!ioctl(p.vp, MSHV_ROOT_HVCALL, &call) && call.reps == 1 && call.status == 0,
	    "ROOT_HVCALL to get a register succeeds");
	WITH(p.vp, reps, 0, EINVAL, "to get no register");
	WITH(p.vp, reps, 4000, EINVAL, "to get more registers than a page holds");
	*(uint32_t *)(header + 1) = 0x7fffffff;
	WITH(p.vp, out_sz, 16, EINVAL, "to get a register that does not exist");
	tap(call.status != 0 && call.reps == 0, "and the status says so");
	*(uint32_t *)(header + 1) = HV_RAX;
	header->vp_index = 7;
	WITH(p.vp, out_sz, 16, EINVAL, "to get a register of no VP");
	header->vp_index = 0;
	header->vtl = 1;
	WITH(p.vp, out_sz, 16, EINVAL, "to get a register of another VTL");
	header->vtl = 0;
#undef WITH
}

static void own_calls(void)
{
	struct hvmod_lp_info lp = { .index = ~0u };
	struct hvmod_partition_info partition = { .id = ~0ull };
	struct hvmod_vp_info vp = { .index = 0 };
	struct hvmod_log_record record;
	struct hvmod_read_log log = { .count = 1, .records = (uintptr_t)&record, .reserved = 1 };

	fails(p.device, HVMOD_GET_LP_INFO, &lp, ENOENT, "HVMOD_GET_LP_INFO past the last");
	lp = (struct hvmod_lp_info){ .reserved[1] = 1 };
	fails(p.device, HVMOD_GET_LP_INFO, &lp, EINVAL, "HVMOD_GET_LP_INFO with a reserved word");
	fails(p.device, HVMOD_GET_PARTITION_INFO, &partition, ENOENT, "HVMOD_GET_PARTITION_INFO past the last");
	partition = (struct hvmod_partition_info){ .reserved[0] = 1 };
	fails(p.device, HVMOD_GET_PARTITION_INFO, &partition, EINVAL,
	      "HVMOD_GET_PARTITION_INFO with a reserved word");
	fails(p.device, HVMOD_READ_LOG, &log, EINVAL, "HVMOD_READ_LOG with a reserved word");
	log = (struct hvmod_read_log){ .count = 1, .records = 0x1000 };
	fails(p.device, HVMOD_READ_LOG, &log, EFAULT, "HVMOD_READ_LOG to nowhere");
	log = (struct hvmod_read_log){ .count = 1, .records = (uintptr_t)KERNEL_ADDRESS };
	fails(p.device, HVMOD_READ_LOG, &log, EFAULT, "HVMOD_READ_LOG to the kernel's memory");
	log = (struct hvmod_read_log){ .seq = ~0ull, .count = 1, .records = (uintptr_t)&record };
	tap(!ioctl(p.device, HVMOD_READ_LOG, &log) && log.count == 0, "HVMOD_READ_LOG past the end reads nothing");
	partition = (struct hvmod_partition_info){ 0 };
	tap(!ioctl(p.device, HVMOD_GET_PARTITION_INFO, &partition) && partition.vps == 1 &&
	    partition.owner == getpid() && partition.shared_bytes == MEMORY_SIZE,
	    "HVMOD_GET_PARTITION_INFO tells of our partition");
	vp.partition = partition.id;
	tap(!ioctl(p.device, HVMOD_GET_VP_INFO, &vp) && vp.partition == partition.id && vp.index == 0 &&
	    vp.state == HVMOD_VP_STOPPED, "HVMOD_GET_VP_INFO tells of its VP");
	vp = (struct hvmod_vp_info){ .partition = partition.id, .index = 1 };
	fails(p.device, HVMOD_GET_VP_INFO, &vp, ENOENT, "HVMOD_GET_VP_INFO past the last");
	vp = (struct hvmod_vp_info){ .partition = partition.id, .index = ~0u };
	fails(p.device, HVMOD_GET_VP_INFO, &vp, ENOENT, "HVMOD_GET_VP_INFO far past the last");
	vp = (struct hvmod_vp_info){ .partition = ~0ull };
	fails(p.device, HVMOD_GET_VP_INFO, &vp, ENOENT, "HVMOD_GET_VP_INFO of no partition");
	vp = (struct hvmod_vp_info){ .partition = partition.id, .reserved[3] = 1 };
	fails(p.device, HVMOD_GET_VP_INFO, &vp, EINVAL, "HVMOD_GET_VP_INFO with a reserved word");
}

/* Arguments at random: any answer is right, as long as there is one. */
static void storm(void)
{
	static const struct call *const tables[] = { device_calls, partition_calls, vp_calls };
	static const int counts[] = { 8, 7, 3 };
	int fds[] = { p.device, p.fd, p.vp }, rounds = getenv("SOAK") && *getenv("SOAK") ? 1000000 : 3000;
	static uint8_t argument[1024];
	int i, j;

	srandom(1);
	for (i = 0; i < rounds; i++) {
		int kind = random() % 3, result;
		const struct call *call = &tables[kind][random() % counts[kind]];

		for (j = 0; j < 256; j++)
			argument[j] = random() % 4 ? 0 : random();
		result = ioctl(fds[kind], call->request, argument);
		/* Some random arguments make a file. */
		if (result > p.vp)
			close(result);
	}
	tap(true, "%d calls at random", rounds);
}

GUEST_CODE(64, still_runs, "mov $0x5a, %eax\n" "outb %al, $0x10\n");

static void runs(struct partition *partition, const char *name)
{
	start_long(partition, still_runs, still_runs_end);
	if (run_to(partition, HV_MSG_IO_PORT, name))
		tap_equal("  and what it says is right", partition->message.port.rax & 0xff, 0x5a);
}

int main(void)
{
	struct partition fresh;

	need_partitions();
	partition_open(&p);
	runs(&p, "a partition runs before");
	pointers_and_sizes(p.device, device_calls, sizeof(device_calls) / sizeof(device_calls[0]));
	pointers_and_sizes(p.fd, partition_calls, 7);
	pointers_and_sizes(p.vp, vp_calls, 3);
	files_and_numbers();
	create();
	memory();
	events();
	states();
	hypercalls();
	own_calls();
	runs(&p, "it runs after all these errors");
	storm();
	partition_close(&p);
	partition_open(&fresh);
	runs(&fresh, "a new one runs after the storm");
	partition_close(&fresh);
	return tap_finish();
}
