/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C functions for the Rust files beside this one that serve the mshv calls.
 */
#ifndef HVMOD_SYS_MSHV_H
#define HVMOD_SYS_MSHV_H

#include <linux/types.h>

struct file;
struct mm_struct;
struct page;

/* anon_file.c */
struct hvmod_anon_ops {
	const char *name;
	long (*ioctl)(void *data, unsigned int cmd, unsigned long arg);
	void (*release)(void *data);
	/* Kernel address of the page at @pgoff, or an ERR_PTR. */
	void *(*page)(void *data, unsigned long pgoff);
};

struct file *hvmod_anon_new(const struct hvmod_anon_ops *ops, u64 partition, void *data);
int hvmod_anon_reserve(void);
void hvmod_anon_install(int fd, struct file *file);
void hvmod_anon_cancel(int fd, struct file *file);

/* pin.c */
struct mm_struct *hvmod_charge(unsigned long count);
void hvmod_uncharge(struct mm_struct *mm, unsigned long count);
bool hvmod_is_charged(struct mm_struct *mm);
long hvmod_pin(unsigned long address, unsigned long count, struct page **pages);
void hvmod_unpin(struct page **pages, unsigned long count, bool dirty);
u64 hvmod_page_spa(struct page *page);
void *hvmod_page_address(struct page *page);
int hvmod_user_memory_kind(unsigned long address, unsigned long size);

/* eventfd.c */
struct hvmod_watch;
struct eventfd_ctx;

int hvmod_watch_init(void);
void hvmod_watch_exit(void);
struct hvmod_watch *hvmod_watch_new(int fd, void (*event)(void *data),
				    void (*hangup)(void *data), void *data);
bool hvmod_watch_start(struct hvmod_watch *watch);
const void *hvmod_watch_id(const struct hvmod_watch *watch);
void hvmod_watch_stop(struct hvmod_watch *watch);
void hvmod_watch_free(struct hvmod_watch *watch, bool in_hangup);
void hvmod_watch_flush(void);
struct eventfd_ctx *hvmod_eventfd_get(int fd);
void hvmod_eventfd_put(struct eventfd_ctx *ctx);
void hvmod_eventfd_signal(struct eventfd_ctx *ctx);

/* run.c */
bool hvmod_work_pending(void);
int hvmod_handle_work(void);
void hvmod_userspace_exit(void);
void hvmod_run_begin(void);
void hvmod_run_end(void);
void hvmod_kick_cpu(u32 cpu);
u64 hvmod_tsc(void);

/* killable.c */
struct hvmod_mutex;

struct hvmod_mutex *hvmod_mutex_new(void);
void hvmod_mutex_free(struct hvmod_mutex *mutex);
int hvmod_mutex_lock(struct hvmod_mutex *mutex);
void hvmod_mutex_unlock(struct hvmod_mutex *mutex);

/* user.c */
bool hvmod_user_ok(u64 address, u64 size);
bool hvmod_user_read(void *to, unsigned long from, unsigned long size);
bool hvmod_user_write(unsigned long to, const void *from, unsigned long size);

/* wait.c */
struct hvmod_waiter;

void hvmod_waiters_init(void);
void hvmod_waiters_exit(void);
struct hvmod_waiter *hvmod_waiter_new(void);
void hvmod_waiter_free(struct hvmod_waiter *waiter);
void hvmod_waiter_attach(struct hvmod_waiter *waiter);
void hvmod_waiter_leave(struct hvmod_waiter *waiter, bool interrupted);
bool hvmod_waiter_was_signalled(struct hvmod_waiter *waiter);
int hvmod_waiter_thread(struct hvmod_waiter *waiter);
bool hvmod_waiter_yield_to(struct hvmod_waiter *waiter);
void hvmod_waiter_alarm(struct hvmod_waiter *waiter, u64 ns);
bool hvmod_waiter_rang(struct hvmod_waiter *waiter);
void hvmod_waiter_arm(struct hvmod_waiter *waiter);
void hvmod_waiter_wake(struct hvmod_waiter *waiter);
int hvmod_waiter_wait(struct hvmod_waiter *waiter, u64 ns);

#endif /* HVMOD_SYS_MSHV_H */
