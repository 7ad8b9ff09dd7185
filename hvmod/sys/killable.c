// SPDX-License-Identifier: GPL-2.0
/*
 * A mutex for which a thread can be killed while it waits.
 */

#include <linux/mutex.h>
#include <linux/slab.h>

#include "mshv.h"

struct hvmod_mutex {
	struct mutex mutex;
};

struct hvmod_mutex *hvmod_mutex_new(void)
{
	struct hvmod_mutex *mutex = kmalloc(sizeof(*mutex), GFP_KERNEL_ACCOUNT);

	if (mutex)
		mutex_init(&mutex->mutex);
	return mutex;
}

void hvmod_mutex_free(struct hvmod_mutex *mutex)
{
	mutex_destroy(&mutex->mutex);
	kfree(mutex);
}

int hvmod_mutex_lock(struct hvmod_mutex *mutex)
{
	return mutex_lock_killable(&mutex->mutex);
}

void hvmod_mutex_unlock(struct hvmod_mutex *mutex)
{
	mutex_unlock(&mutex->mutex);
}
