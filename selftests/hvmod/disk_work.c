// SPDX-License-Identifier: GPL-2.0
/*
 * disk_work DEVICE OPERATIONS: random reads and writes past the page cache, by four
 * processes at once, each on its own part and with many operations on their way. What is
 * read must be what was written last; at first, zeros.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 4
#define BLOCK 4096
#define MOST 8		/* blocks of one operation */
#define DEPTH 16	/* operations on their way, each in its own part of a worker's */

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

static uint32_t *generations;
static char *buffers;

/* Makes up an operation on the blocks from `first` on. */
static void begin(struct iocb *op, int slot, int fd, uint64_t base, uint64_t first, uint64_t blocks)
{
	uint64_t count = 1 + next_random() % MOST;
	uint64_t at = first + next_random() % (blocks - count + 1);
	char *buffer = buffers + slot * MOST * BLOCK;
	bool write = next_random() % 2;

	*op = (struct iocb) {
		.aio_fildes = fd,
		.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_buf = (uintptr_t)buffer,
		.aio_nbytes = count * BLOCK,
		.aio_offset = (base + at) * BLOCK,
		.aio_data = at,
	};
	for (uint64_t b = 0; write && b < count; b++)
		fill((void *)(buffer + b * BLOCK), base + at + b, ++generations[at + b]);
	if (!write)
		memset(buffer, 0x55, count * BLOCK);
}

/* Whether it read what is there. */
static bool verify(const struct iocb *op, uint64_t base)
{
	static uint64_t wanted[BLOCK / 8];

	for (uint64_t b = 0; op->aio_lio_opcode == IOCB_CMD_PREAD && b < op->aio_nbytes / BLOCK; b++) {
		fill(wanted, base + op->aio_data + b, generations[op->aio_data + b]);
		if (memcmp(wanted, (char *)op->aio_buf + b * BLOCK, BLOCK)) {
			printf("block %lu is not what was written\n", (long)(base + op->aio_data + b));
			return false;
		}
	}
	return true;
}

static int work(const char *path, uint64_t base, uint64_t blocks, long operations)
{
	int fd = open(path, O_RDWR | O_DIRECT);
	struct iocb ops[DEPTH], *list[DEPTH];
	struct io_event events[DEPTH];
	aio_context_t context = 0;

	generations = calloc(blocks, sizeof(*generations));
	if (fd < 0 || !generations || posix_memalign((void **)&buffers, BLOCK, DEPTH * MOST * BLOCK) ||
	    syscall(SYS_io_setup, DEPTH, &context)) {
		perror(path);
		return 1;
	}
	for (long done = 0; done < operations; done += DEPTH) {
		for (int i = 0; i < DEPTH; i++) {
			begin(&ops[i], i, fd, base, i * (blocks / DEPTH), blocks / DEPTH);
			list[i] = &ops[i];
		}
		if (syscall(SYS_io_submit, context, DEPTH, list) != DEPTH ||
		    syscall(SYS_io_getevents, context, DEPTH, DEPTH, events, NULL) != DEPTH) {
			perror("submit");
			return 1;
		}
		for (int i = 0; i < DEPTH; i++) {
			if (events[i].res != (int64_t)((struct iocb *)events[i].obj)->aio_nbytes) {
				printf("an operation ended with %ld\n", (long)events[i].res);
				return 1;
			}
			if (!verify(&ops[i], base))
				return 1;
		}
		if (next_random() % 4 == 0 && fdatasync(fd)) {
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
