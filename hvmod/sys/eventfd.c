// SPDX-License-Identifier: GPL-2.0
/*
 * Being called when somebody signals an eventfd.
 */

#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "mshv.h"

struct hvmod_watch {
	wait_queue_entry_t entry;
	poll_table table;
	struct file *file;		/* until started */
	struct eventfd_ctx *ctx;
	struct work_struct work;
	void (*event)(void *data);	/* any context, interrupts off */
	void (*hangup)(void *data);	/* process context */
	void *data;
	bool hooked;
};

static struct workqueue_struct *hangup_wq;

int hvmod_watch_init(void)
{
	hangup_wq = alloc_workqueue("hvmod-eventfd", WQ_UNBOUND, 0);
	return hangup_wq ? 0 : -ENOMEM;
}

void hvmod_watch_exit(void)
{
	destroy_workqueue(hangup_wq);
}

/* Waits until no call of hangup() is pending or running. */
void hvmod_watch_flush(void)
{
	flush_workqueue(hangup_wq);
}

static void watch_work(struct work_struct *work)
{
	struct hvmod_watch *watch = container_of(work, struct hvmod_watch, work);

	watch->hangup(watch->data);
}

/* With the lock of the wait queue held and interrupts off. */
static int watch_wakeup(wait_queue_entry_t *entry, unsigned int mode, int sync,
			void *key)
{
	struct hvmod_watch *watch = container_of(entry, struct hvmod_watch, entry);
	__poll_t events = key_to_poll(key);
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(watch->ctx, &count);
		watch->event(watch->data);
	}
	if (events & EPOLLHUP)
		queue_work(hangup_wq, &watch->work);
	return !!(events & EPOLLIN);
}

static void watch_hook(struct file *file, wait_queue_head_t *queue,
		       poll_table *table)
{
	struct hvmod_watch *watch = container_of(table, struct hvmod_watch, table);

	watch->entry.flags |= WQ_FLAG_EXCLUSIVE;
	add_wait_queue_priority(queue, &watch->entry);
	watch->hooked = true;
}

/* Nothing is called before hvmod_watch_start(). */
struct hvmod_watch *hvmod_watch_new(int fd, void (*event)(void *data),
				    void (*hangup)(void *data), void *data)
{
	struct hvmod_watch *watch = kzalloc(sizeof(*watch), GFP_KERNEL_ACCOUNT);
	struct eventfd_ctx *ctx;

	if (!watch)
		return ERR_PTR(-ENOMEM);

	watch->file = fget(fd);
	if (!watch->file) {
		kfree(watch);
		return ERR_PTR(-EBADF);
	}

	ctx = eventfd_ctx_fileget(watch->file);
	if (IS_ERR(ctx)) {
		fput(watch->file);
		kfree(watch);
		return ERR_CAST(ctx);
	}

	watch->ctx = ctx;
	watch->event = event;
	watch->hangup = hangup;
	watch->data = data;
	INIT_WORK(&watch->work, watch_work);
	init_waitqueue_func_entry(&watch->entry, watch_wakeup);
	init_poll_funcptr(&watch->table, watch_hook);
	return watch;
}

/* Once. True if the eventfd was signalled already. */
bool hvmod_watch_start(struct hvmod_watch *watch)
{
	__poll_t events = vfs_poll(watch->file, &watch->table);

	fput(watch->file);
	watch->file = NULL;
	return events & EPOLLIN;
}

/* Equal for two watches of one eventfd. */
const void *hvmod_watch_id(const struct hvmod_watch *watch)
{
	return watch->ctx;
}

/* When this returns, event() does not run and will not. */
void hvmod_watch_stop(struct hvmod_watch *watch)
{
	u64 count;

	if (watch->hooked)
		eventfd_ctx_remove_wait_queue(watch->ctx, &watch->entry, &count);
	watch->hooked = false;
}

/* Stops as well. @in_hangup: called by hangup() of this watch. */
void hvmod_watch_free(struct hvmod_watch *watch, bool in_hangup)
{
	hvmod_watch_stop(watch);
	if (!in_hangup)
		cancel_work_sync(&watch->work);
	if (watch->file)
		fput(watch->file);
	eventfd_ctx_put(watch->ctx);
	kfree(watch);
}

struct eventfd_ctx *hvmod_eventfd_get(int fd)
{
	return eventfd_ctx_fdget(fd);
}

void hvmod_eventfd_put(struct eventfd_ctx *ctx)
{
	eventfd_ctx_put(ctx);
}

void hvmod_eventfd_signal(struct eventfd_ctx *ctx)
{
	eventfd_signal(ctx);
}
