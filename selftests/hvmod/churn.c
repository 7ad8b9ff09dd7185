// SPDX-License-Identifier: GPL-2.0
/*
 * churn SECONDS [CGROUP]: partitions with memory and a VP are made and destroyed all the time. The
 * last one, if a cgroup is named, by a thread in that.
 */
#include <time.h>

#include "partition.h"

static void make(struct partition *p)
{
	struct hvmod_private_memory private = { .guest_pfn = 0x10000, .size = 16 * PAGE, .flags = 3 };

	partition_open(p);
	if (ioctl(p->fd, HVMOD_SET_PRIVATE_MEMORY, &private))
		tap_bail_out("HVMOD_SET_PRIVATE_MEMORY: %s", strerror(errno));
}

static void move_to(const char *group)
{
	char path[200];
	int file;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	file = open(path, O_WRONLY);
	/* What it needs from here on it has. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE) || file < 0 || write(file, "0", 1) != 1)
		tap_bail_out("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	struct partition p;

	while (time(NULL) < end) {
		make(&p);
		partition_close(&p);
	}
	if (argc > 2) {
		make(&p);
		move_to(argv[2]);
		partition_close(&p);
	}
	return 0;
}
