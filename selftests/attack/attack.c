// SPDX-License-Identifier: GPL-2.0
/*
 * What a hostile root kernel could try against hvcore, as commands in
 * /sys/kernel/debug/hvattack: write one, read what came of it.
 *
 *   vmcall NUMBER [A B C D E]	a hypercall: "STATUS VALUE EXTRA", or "trap N"
 *   read PHYS			8 bytes through Linux's map of all memory, or "fault"
 *   write PHYS VALUE		the same, "ok" or "fault"
 *   vread, vwrite		through a mapping of its own
 *   use WAY PHYS		another way, of access.c: "fault" or "ok FOUND"
 *   va PHYS			address in Linux's map
 *   scan PHYS SIZE		"N bytes are not 0, N faults"
 *   ram			reads all System RAM: "N pages, N faults"
 *   victim PHYS SIZE		first 2 MiB of RAM outside of that which read as zeros and refuse
 *				writes, or "none"
 *   own			PHYS of 64 pages of the module's
 *   run NAME [A B]		an instruction: "trap N", or "ok RESULT"
 *   real CPU			starts an offline CPU in real mode: "end: #UD N, #GP N, CR0 N"
 *   nmis PHYS COUNT		looks at hidden memory behind MOV SS, under NMIs: "N NMIs, N lost"
 *   storm CPU PAUSE		that CPU has NMIs all the time, until
 *   calm			"N NMIs, N lost"
 *   fuzz SEED COUNT		random hypercalls on all CPUs
 *
 * What a program maps of that file is the memory at the offset.
 *
 * A selftest, of no use to anybody else.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/asm.h>
#include <asm/fpu/api.h>

#include "attack.h"

static DEFINE_MUTEX(lock);
static char result[4096];
static struct dentry *file;
#define OWN_ORDER 6

static struct page *own;

/* Not for calls that run a VP, which has the registers of the FPU then. */
struct answer vmcall_no_fpu(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e)
{
	struct answer answer = { .status = number, .value = c, .extra = d };
	register u64 r8 asm("r8");
	register u64 r9 asm("r9");
	unsigned long flags;
	u32 trap = 0;

	local_irq_save(flags);
	/* Not before these calls, which may change them. */
	r8 = d;
	r9 = e;
	asm volatile("1: vmcall\n"
		     "jmp 3f\n"
		     "2: mov %%eax, %[trap]\n"
		     "3:\n"
		     _ASM_EXTABLE_FAULT(1b, 2b)
		     : "+a" (answer.status), "+d" (answer.value), "+r" (r8), [trap] "+&r" (trap)
		     : "D" (a), "S" (b), "r" (r9)
		     : "memory");
	answer.extra = r8;
	answer.trap = trap;
	local_irq_restore(flags);
	return answer;
}

/* Not in interrupts, which may have interrupted who uses the FPU. */
struct answer vmcall(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e)
{
	struct answer answer;

	kernel_fpu_begin_mask(0);
	answer = vmcall_no_fpu(number, a, b, c, d, e);
	kernel_fpu_end();
	return answer;
}

/* A page that is mapped nowhere else by this address. */
static void *alias(u64 spa, struct page **page)
{
	*page = pfn_to_page(spa >> PAGE_SHIFT);
	return vmap(page, 1, VM_MAP, PAGE_KERNEL);
}

static long touch(const char *command, u64 spa, u64 *value)
{
	bool write = !!strstr(command, "write");
	void *mapped = NULL, *at;
	struct page *page;
	long error;

	if (!pfn_valid(spa >> PAGE_SHIFT))
		return -ENXIO;
	at = __va(spa);
	if (command[0] == 'v') {
		mapped = alias(spa, &page);
		if (!mapped)
			return -ENOMEM;
		at = mapped + offset_in_page(spa);
	}
	error = write ? put_nofault(at, *value) :
			copy_from_kernel_nofault(value, at, 8);
	vunmap(mapped);
	return error;
}

static void scan(u64 spa, u64 size, struct seq_buf *out)
{
	unsigned long loud = 0, faults = 0;
	u64 *copy = kmalloc(PAGE_SIZE, GFP_KERNEL);
	u64 at;

	if (!copy)
		return;
	for (at = spa; at < spa + size; at += PAGE_SIZE) {
		if (copy_from_kernel_nofault(copy, __va(at), PAGE_SIZE))
			faults++;
		else
			loud += memchr_inv(copy, 0, PAGE_SIZE) != NULL;
		cond_resched();
	}
	kfree(copy);
	seq_buf_printf(out, "%lu pages are not 0, %lu faults\n", loud, faults);
}

/* Eight bytes of each page that Linux knows tell as much as all of it. */
static void read_ram(struct seq_buf *out)
{
	unsigned long pfn, pages = 0, faults = 0;
	u64 word;
	int node;

	for_each_online_node(node)
		for (pfn = node_start_pfn(node); pfn < node_end_pfn(node); pfn++) {
			if (!(pfn % 1024))
				cond_resched();
			if (!pfn_valid(pfn) || PageReserved(pfn_to_page(pfn)))
				continue;
			pages++;
			faults += copy_from_kernel_nofault(&word, pfn_to_kaddr(pfn), 8) != 0;
		}
	seq_buf_printf(out, "%lu pages, %lu faults\n", pages, faults);
}

/* Writes what is there: it does no harm to pages that are in use. */
static bool refuses(void *at)
{
	asm goto("1: lock orb $0, %0\n"
		 _ASM_EXTABLE(1b, %l[fault])
		 : : "m" (*(u8 *)at) : "memory" : fault);
	return false;
fault:
	return true;
}

static bool is_hidden(u64 spa)
{
	u64 at, word;

	for (at = spa; at < spa + PMD_SIZE; at += PAGE_SIZE)
		if (PageReserved(pfn_to_page(at >> PAGE_SHIFT)) ||
		    copy_from_kernel_nofault(&word, __va(at), 8) || word)
			return false;
	return refuses(__va(spa)) && refuses(__va(spa + PMD_SIZE - 1));
}

static void find_victim(u64 start, u64 size, struct seq_buf *out)
{
	unsigned long end = node_end_pfn(first_online_node), pfn;

	for (pfn = 0; pfn + PTRS_PER_PMD <= end; pfn += PTRS_PER_PMD) {
		u64 spa = (u64)pfn << PAGE_SHIFT;

		cond_resched();
		if (spa + PMD_SIZE > start && spa < start + size)
			continue;
		if (pfn_valid(pfn) && pfn_valid(pfn + PTRS_PER_PMD - 1) && is_hidden(spa)) {
			seq_buf_printf(out, "%#llx\n", spa);
			return;
		}
	}
	seq_buf_puts(out, "none\n");
}

static void execute(char *line, struct seq_buf *out)
{
	u64 n[6] = { 0 };
	char name[32];
	int got;

	got = sscanf(line, "%31s %lli %lli %lli %lli %lli %lli", name, &n[0], &n[1], &n[2], &n[3],
		     &n[4], &n[5]);
	if (got < 1)
		return;
	if (!strcmp(name, "vmcall")) {
		struct answer answer = vmcall(n[0], n[1], n[2], n[3], n[4], n[5]);

		if (answer.trap)
			seq_buf_printf(out, "trap %u\n", answer.trap);
		else
			seq_buf_printf(out, "%llu %llu %llu\n", answer.status, answer.value,
				       answer.extra);
	} else if (!strcmp(name, "read") || !strcmp(name, "vread")) {
		u64 value = 0;

		if (touch(name, n[0], &value))
			seq_buf_puts(out, "fault\n");
		else
			seq_buf_printf(out, "%#llx\n", value);
	} else if (!strcmp(name, "write") || !strcmp(name, "vwrite")) {
		seq_buf_puts(out, touch(name, n[0], &n[1]) ? "fault\n" : "ok\n");
	} else if (!strcmp(name, "use")) {
		char way[32];
		u64 found = 0;
		int faults;

		if (sscanf(line, "%*s %31s %lli", way, &n[0]) < 2)
			return;
		faults = use(way, n[0], &found);
		if (faults < 0)
			seq_buf_puts(out, "not tried\n");
		else
			seq_buf_printf(out, faults ? "fault\n" : "ok %#llx\n", found);
	} else if (!strcmp(name, "va")) {
		seq_buf_printf(out, "%#lx\n", (unsigned long)__va(n[0]));
	} else if (!strcmp(name, "scan")) {
		scan(n[0], n[1], out);
	} else if (!strcmp(name, "ram")) {
		read_ram(out);
	} else if (!strcmp(name, "victim")) {
		find_victim(n[0], n[1], out);
	} else if (!strcmp(name, "own")) {
		seq_buf_printf(out, "%#llx\n", (u64)page_to_phys(own));
	} else if (!strcmp(name, "run")) {
		char what[32];
		u64 value = 0;
		int trap;

		n[0] = n[1] = 0;
		if (sscanf(line, "%*s %31s %lli %lli", what, &n[0], &n[1]) < 1)
			return;
		trap = run_instruction(what, n[0], n[1], &value);
		if (trap < 0)
			seq_buf_printf(out, "no such instruction\n");
		else if (trap)
			seq_buf_printf(out, "trap %d\n", trap);
		else
			seq_buf_printf(out, "ok %#llx\n", value);
	} else if (!strcmp(name, "real")) {
		real_mode(n[0], out);
	} else if (!strcmp(name, "nmis")) {
		shadowed_nmis(n[0], n[1], out);
	} else if (!strcmp(name, "storm")) {
		storm(n[0], n[1], out);
	} else if (!strcmp(name, "calm")) {
		calm(out);
	} else if (!strcmp(name, "fuzz")) {
		int error = fuzz(n[0], n[1], out);

		if (error)
			seq_buf_printf(out, "error %d\n", error);
	} else {
		seq_buf_puts(out, "no such command\n");
	}
}

static ssize_t command_write(struct file *f, const char __user *data, size_t size, loff_t *offset)
{
	struct seq_buf out;
	char line[256];

	if (size >= sizeof(line) || copy_from_user(line, data, size))
		return -EINVAL;
	line[size] = 0;
	mutex_lock(&lock);
	seq_buf_init(&out, result, sizeof(result) - 1);
	execute(line, &out);
	result[seq_buf_used(&out)] = 0;
	mutex_unlock(&lock);
	return size;
}

static ssize_t command_read(struct file *f, char __user *data, size_t size, loff_t *offset)
{
	ssize_t done;

	mutex_lock(&lock);
	done = simple_read_from_buffer(data, size, offset, result, strlen(result));
	mutex_unlock(&lock);
	return done;
}

static int command_mmap(struct file *f, struct vm_area_struct *vma)
{
	return remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff, vma->vm_end - vma->vm_start,
			       vma->vm_page_prot);
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.mmap = command_mmap,
	.write = command_write,
	.read = command_read,
};

static int __init attack_init(void)
{
	int error = hotplug_drivers();

	if (error)
		return error;
	error = -ENOMEM;
	own = alloc_pages(GFP_KERNEL | __GFP_ZERO, OWN_ORDER);
	if (!own)
		goto no_pages;
	file = debugfs_create_file_unsafe("hvattack", 0600, NULL, NULL, &operations);
	error = PTR_ERR_OR_ZERO(file);
	if (!error)
		return 0;
	__free_pages(own, OWN_ORDER);
no_pages:
	hotplug_drivers_exit();
	return error;
}

static void __exit attack_exit(void)
{
	struct seq_buf out;

	debugfs_remove(file);
	seq_buf_init(&out, result, sizeof(result) - 1);
	calm(&out);
	fuzz_exit();
	hotplug_drivers_exit();
	__free_pages(own, OWN_ORDER);
}

module_init(attack_init);
module_exit(attack_exit);
MODULE_DESCRIPTION("Attacks of the root on hvcore: a selftest");
MODULE_LICENSE("GPL");
