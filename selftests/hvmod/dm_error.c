// SPDX-License-Identifier: GPL-2.0
/*
 * dm_error DEVICE FROM COUNT: a device-mapper device, whose node it prints, that is DEVICE
 * but for COUNT sectors that cannot be read or written. "dm_error remove" takes it away.
 */
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char buffer[4096] __attribute__((aligned(8)));
static struct dm_ioctl *const request = (void *)buffer;

static void prepare(void)
{
	memset(buffer, 0, sizeof(buffer));
	request->version[0] = DM_VERSION_MAJOR;
	request->data_size = sizeof(buffer);
	request->data_start = sizeof(*request);
	strcpy(request->name, "hvmod-error");
}

static char *target(char *at, uint64_t start, uint64_t length, const char *type, const char *text)
{
	struct dm_target_spec *spec = (void *)at;
	size_t size = (sizeof(*spec) + strlen(text) + 1 + 7) & ~7UL;

	spec->sector_start = start;
	spec->length = length;
	strcpy(spec->target_type, type);
	strcpy((char *)(spec + 1), text);
	spec->next = size;
	request->target_count++;
	return at + size;
}

int main(int argc, char **argv)
{
	uint64_t from, count, size;
	struct stat st;
	char text[64], *at;
	int dm = open("/dev/mapper/control", O_RDWR), fd;

	prepare();
	if (argc == 2 && !strcmp(argv[1], "remove"))
		return ioctl(dm, DM_DEV_REMOVE, request) && (perror("remove"), 1);
	if (argc != 4)
		return fprintf(stderr, "usage: see the source\n"), 2;
	from = strtoull(argv[2], NULL, 0);
	count = strtoull(argv[3], NULL, 0);
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || ioctl(fd, BLKGETSIZE64, &size))
		return perror(argv[1]), 1;
	size /= 512;
	if (ioctl(dm, DM_DEV_CREATE, request))
		return perror("create"), 1;

	prepare();
	at = buffer + sizeof(*request);
	snprintf(text, sizeof(text), "%u:%u 0", major(st.st_rdev), minor(st.st_rdev));
	at = target(at, 0, from, "linear", text);
	at = target(at, from, count, "error", "");
	snprintf(text, sizeof(text), "%u:%u %lu", major(st.st_rdev), minor(st.st_rdev), from + count);
	target(at, from + count, size - from - count, "linear", text);
	if (ioctl(dm, DM_TABLE_LOAD, request))
		return perror("load"), 1;

	prepare();
	if (ioctl(dm, DM_DEV_SUSPEND, request))	/* without its flag: resume */
		return perror("resume"), 1;
	printf("/dev/dm-%u\n", minor(request->dev));
	return 0;
}
