// SPDX-License-Identifier: GPL-2.0
/*
 * disk_trim DEVICE: discards the first quarter of a disk, has the third zeroed, and says what is
 * to be read in each afterwards: "zeros", or "other".
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *content(int fd, uint64_t from, uint64_t size)
{
	static unsigned char buffer[1 << 16];

	while (size) {
		ssize_t got = pread(fd, buffer, sizeof(buffer), from);

		if (got <= 0)
			return "unreadable";
		for (ssize_t i = 0; i < got; i++)
			if (buffer[i])
				return "other";
		from += got;
		size -= got;
	}
	return "zeros";
}

int main(int argc, char **argv)
{
	uint64_t size, range[2];
	int fd;

	if (argc != 2)
		return fprintf(stderr, "usage: disk_trim DEVICE\n"), 2;
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
		return perror(argv[1]), 1;
	size /= 4;
	range[0] = 0;
	range[1] = size;
	if (ioctl(fd, BLKDISCARD, range))
		return perror("discard"), 1;
	range[0] = 2 * size;
	if (ioctl(fd, BLKZEROOUT, range))
		return perror("zero"), 1;
	/* From the disk, not from what the kernel remembers. */
	if (fsync(fd) || ioctl(fd, BLKFLSBUF, 0))
		return perror("flush"), 1;
	printf("%s", content(fd, 0, size));
	for (int i = 1; i < 4; i++)
		printf(" %s", content(fd, i * size, size));
	printf("\n");
	return 0;
}
