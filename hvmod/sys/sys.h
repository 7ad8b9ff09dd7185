/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C functions for the Rust files beside this one: what the kernel offers only
 * as macros, inline functions or static structures.
 */
#ifndef HVMOD_SYS_H
#define HVMOD_SYS_H

#include <linux/types.h>

/* block.c */
void *hvmod_block_alloc(size_t pages, bool account);
void hvmod_block_free(void *block, size_t pages);
u64 hvmod_pages_available(void);

/* page.c */
void *hvmod_page_alloc(void);
void hvmod_page_free(void *page);
u64 hvmod_spa(const void *address);

/* deposit.c */
void hvmod_deposit_add(u64 spa, size_t pages, bool private);
void hvmod_deposit_take(u64 spa);
void hvmod_deposit_free_taken(void (*sync)(void));
void hvmod_deposit_free_all(void);
void hvmod_deposit_scrub(void);

/* ticker.c */
void hvmod_ticker_start(void (*function)(void));
void hvmod_ticker_stop(void);
void hvmod_ticker_hurry(void);

/* machine.c */
u64 hvmod_ram_end(void);
bool hvmod_cpu_online(u32 cpu);
bool hvmod_cpu_possible(u32 cpu);
void hvmod_cpu_init(u32 cpu);
void hvmod_cpu_sipi(u32 cpu);

/* errand.c */
int hvmod_errand(u32 cpu, void (*run)(void *data), void *data, unsigned int ms,
		 void (*give_up)(void *about, bool up), void *about);

/* gather.c */
int hvmod_gather_start(void);
void hvmod_gather_stop(void);
void hvmod_gather_enter(u32 cpu);
void hvmod_gather_offline(u32 cpu);
void hvmod_gather_leave(u32 cpu, bool dead);
bool hvmod_gather_began(void);
struct hvmod_outcome {
	u64 status, detail;
};
bool hvmod_gather_go(const void *enter, struct hvmod_outcome *outcome);

/* trampoline.S */
struct hvmod_outcome hvmod_enter(const void *enter);

/* notifier.c */
int hvmod_notifiers_register(void (*going_down)(void), void (*panicking)(void),
			     bool (*may_sleep)(void));
void hvmod_notifiers_unregister(void);

/* device.c */
struct file;
struct miscdevice;
bool hvmod_misc_exists(struct miscdevice *registered, const char *name);
bool hvmod_file_keeps_module(struct file *file);

/* debugfs.c */
struct dentry;
struct dentry *hvmod_debugfs_dir(const char *name);
void hvmod_debugfs_file(struct dentry *dir, const char *name, void (*show)(void *file));
void hvmod_debugfs_remove(struct dentry *dir);

#endif /* HVMOD_SYS_H */
