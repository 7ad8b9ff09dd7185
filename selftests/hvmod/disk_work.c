// SPDX-License-Identifier: GPL-2.0
/*
 * disk_work DEVICE OPERATIONS: random reads and writes past the page cache, by four
 * processes at once, each on its own part. What is read must be what was written last.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 4
#define BLOCK 4096
#define MOST 8		/* blocks of one operation */

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1d;
}

/* A block that knows where it is and how often it was written; 0: as it was found. */
static void fill(uint64_t *words, uint64_t block, uint32_t generation)
{
	for (int i = 0; i < BLOCK / 8; i++)
		words[i] = generation ? (block << 32 | generation) * 0x9e3779b97f4a7c15 + i : 0;
}

static int work(const char *path, uint64_t first, uint64_t blocks, long operations)
{
	uint32_t *generations = calloc(blocks, sizeof(*generations));
	int fd = open(path, O_RDWR | O_DIRECT);
	static uint64_t wanted[BLOCK / 8];
	char *buffer;

	if (fd < 0 || !generations || posix_memalign((void **)&buffer, BLOCK, MOST * BLOCK)) {
		perror(path);
		return 1;
	}
	for (long i = 0; i < operations; i++) {
		uint64_t count = 1 + next_random() % MOST;
		uint64_t at = next_random() % (blocks - count + 1);
		int write = next_random() % 2;
		ssize_t moved;

		for (uint64_t b = at; write && b < at + count; b++)
			fill((void *)(buffer + (b - at) * BLOCK), first + b, ++generations[b]);
		if (!write)
			memset(buffer, 0x55, count * BLOCK);
		moved = write ? pwrite(fd, buffer, count * BLOCK, (first + at) * BLOCK)
			      : pread(fd, buffer, count * BLOCK, (first + at) * BLOCK);
		if (moved != (ssize_t)(count * BLOCK)) {
			perror(write ? "write" : "read");
			return 1;
		}
		for (uint64_t b = at; !write && b < at + count; b++) {
			fill(wanted, first + b, generations[b]);
			if (memcmp(wanted, buffer + (b - at) * BLOCK, BLOCK)) {
				printf("block %lu is not what was written\n", (long)(first + b));
				return 1;
			}
		}
		if (next_random() % 64 == 0 && fdatasync(fd)) {
			perror("flush");
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0, status, fd;
	uint64_t size;

	if (argc != 3)
		return fprintf(stderr, "usage: disk_work DEVICE OPERATIONS\n"), 2;
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size)) {
		perror(argv[1]);
		return 1;
	}
	for (int i = 0; i < WORKERS; i++) {
		if (fork())
			continue;
		state = 88172645463325252 + i;
		size /= WORKERS * BLOCK;
		return work(argv[1], i * size, size, atol(argv[2]) / WORKERS);
	}
	while (wait(&status) > 0)
		failed |= status;
	puts(failed ? "failed" : "verified");
	return !!failed;
}
