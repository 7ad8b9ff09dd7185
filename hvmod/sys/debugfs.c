// SPDX-License-Identifier: GPL-2.0
/*
 * Files in debugfs. Those of the kernel's Rust do not keep their module loaded
 * while a program has one open, and closing it takes the module's operations.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "sys.h"

static int hvmod_debugfs_show(struct seq_file *file, void *unused)
{
	void (*show)(void *file) = file->private;

	show(file);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(hvmod_debugfs);

/* Without debugfs this is an error, which the other functions take. */
struct dentry *hvmod_debugfs_dir(const char *name)
{
	return debugfs_create_dir(name, NULL);
}

void hvmod_debugfs_file(struct dentry *dir, const char *name, void (*show)(void *file))
{
	debugfs_create_file(name, 0400, dir, show, &hvmod_debugfs_fops);
}

/* When this returns nobody is in one of its files. */
void hvmod_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}
