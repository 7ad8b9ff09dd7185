// SPDX-License-Identifier: GPL-2.0
/*
 * Files without a name: partitions and VPs.
 */

#include <linux/anon_inodes.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sprintf.h>

#include "mshv.h"

struct anon {
	const struct hvmod_anon_ops *ops;
	void *data;
};

static long anon_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct anon *anon = file->private_data;

	return anon->ops->ioctl(anon->data, cmd, arg);
}

static int anon_release(struct inode *inode, struct file *file)
{
	struct anon *anon = file->private_data;

	anon->ops->release(anon->data);
	kfree(anon);
	return 0;
}

static vm_fault_t anon_fault(struct vm_fault *vmf)
{
	struct anon *anon = vmf->vma->vm_file->private_data;
	void *address = anon->ops->page(anon->data, vmf->pgoff);

	if (IS_ERR(address))
		return VM_FAULT_SIGBUS;

	vmf->page = virt_to_page(address);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct anon_vm_ops = {
	.fault = anon_fault,
};

static int anon_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct anon *anon = file->private_data;
	void *address = anon->ops->page(anon->data, vma->vm_pgoff);

	if (IS_ERR(address))
		return PTR_ERR(address);

	vma->vm_ops = &anon_vm_ops;
	return 0;
}

static const struct file_operations anon_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = anon_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = anon_release,
	.mmap = anon_mmap,
	.llseek = noop_llseek,
};

/*
 * On success, releasing the file calls ops->release; on failure nothing does.
 * The name that /proc/PID/fd and /proc/PID/maps show ends in @partition, for who
 * looks for a partition's holder.
 */
struct file *hvmod_anon_new(const struct hvmod_anon_ops *ops, u64 partition, void *data)
{
	struct anon *anon = kmalloc(sizeof(*anon), GFP_KERNEL_ACCOUNT);
	struct file *file;
	char name[32];

	if (!anon)
		return ERR_PTR(-ENOMEM);

	anon->ops = ops;
	anon->data = data;
	snprintf(name, sizeof(name), "%s-%llu", ops->name, partition);
	file = anon_inode_getfile(name, &anon_fops, anon, O_RDWR);
	if (IS_ERR(file))
		kfree(anon);
	return file;
}

int hvmod_anon_reserve(void)
{
	return get_unused_fd_flags(O_CLOEXEC);
}

void hvmod_anon_install(int fd, struct file *file)
{
	fd_install(fd, file);
}

void hvmod_anon_cancel(int fd, struct file *file)
{
	put_unused_fd(fd);
	if (file)
		fput(file);
}
