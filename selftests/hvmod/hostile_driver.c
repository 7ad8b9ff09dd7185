// SPDX-License-Identifier: GPL-2.0
/*
 * hostile_driver RESOURCE: a driver of a virtio disk, through the file of its BAR 0, that does
 * what none may. The device must say that it needs a reset, and be itself again after one.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where hvctl has things: transport.rs says so too, in its capabilities. */
#define NOTIFY 0x3000
#define TABLE 0x4000
#define SIZE 0x8000

enum { FEATURE_SELECT = 8, FEATURE = 12, STATUS = 20, QUEUE = 22, QUEUE_SIZE = 24, ENABLE = 28,
       DESCRIPTORS = 32, AVAILABLE = 40, USED = 48 };
enum { ACKNOWLEDGE = 1, DRIVER = 2, READY = 4, FEATURES = 8, NEEDS_RESET = 64 };

static volatile uint8_t *bar;
/* Four pages: descriptors, available, used, data; and where they are in memory. */
static uint8_t *page[4];
static uint64_t physical[4];
static uint16_t offered;

#define put(offset, type, value) (*(volatile type *)(bar + (offset)) = (value))
#define status() (bar[STATUS])

static void put64(int offset, uint64_t value)
{
	put(offset, uint32_t, value);
	put(offset + 4, uint32_t, value >> 32);
}

static int map(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);

	for (int i = 0; i < 4; i++) {
		uint64_t entry;

		page[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
		if (page[i] == MAP_FAILED ||
		    pread(fd, &entry, 8, (uintptr_t)page[i] / 4096 * 8) != 8 || !(entry << 9))
			return -1;
		physical[i] = (entry & 0x7fffffffffffffULL) * 4096;
	}
	return 0;
}

/* Up to use, with the queue at these addresses. */
static void begin(uint64_t descriptors, uint64_t available, uint64_t used)
{
	put(STATUS, uint8_t, 0);
	put(STATUS, uint8_t, ACKNOWLEDGE | DRIVER);
	put(FEATURE_SELECT, uint32_t, 0);
	put(FEATURE, uint32_t, 0);
	put(FEATURE_SELECT, uint32_t, 1);
	put(FEATURE, uint32_t, 1);	/* VERSION_1 */
	put(STATUS, uint8_t, ACKNOWLEDGE | DRIVER | FEATURES);
	put(QUEUE, uint16_t, 0);
	put(QUEUE_SIZE, uint16_t, 8);
	put64(DESCRIPTORS, descriptors);
	put64(AVAILABLE, available);
	put64(USED, used);
	put(ENABLE, uint16_t, 1);
	put(STATUS, uint8_t, ACKNOWLEDGE | DRIVER | FEATURES | READY);
}

static void begin_well(void)
{
	for (int i = 0; i < 4; i++)
		memset(page[i], 0, 4096);
	offered = 0;
	begin(physical[0], physical[1], physical[2]);
}

static void descriptor(int index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
	memcpy(page[0] + 16 * index, &address, 8);
	memcpy(page[0] + 16 * index + 8, &length, 4);
	memcpy(page[0] + 16 * index + 12, &flags, 2);
	memcpy(page[0] + 16 * index + 14, &next, 2);
}

static void offer(uint16_t head)
{
	volatile uint16_t *available = (void *)page[1];

	available[2 + offered % 8] = head;
	__sync_synchronize();
	available[1] = ++offered;
	put(NOTIFY, uint16_t, 0);
}

/* A read of sector 0, as it should be. */
static void request(void)
{
	descriptor(0, physical[3], 16, 1, 1);
	descriptor(1, physical[3] + 512, 512, 3, 2);
	descriptor(2, physical[3] + 16, 1, 2, 0);
	offer(0);
}

static void expect(const char *what, int good)
{
	printf("guest: %s: %s\n", what, good ? "ok" : "wrong");
}

static int stops(void)
{
	for (int i = 0; i < 5000 && !(status() & NEEDS_RESET); i++)
		usleep(1000);
	return status() & NEEDS_RESET;
}

static int serves(void)
{
	volatile uint16_t *used = (void *)page[2];

	begin_well();
	page[3][16] = 0xaa;
	request();
	for (int i = 0; i < 5000 && !used[1]; i++)
		usleep(1000);
	return used[1] == 1 && page[3][16] == 0;
}

/* Whether a device that stops says so, and begins again, any number of times. */
static int stops_each_time(void)
{
	for (int i = 0; i < 200; i++) {
		begin_well();
		offer(999);
		if (!stops())
			return 0;
	}
	return 1;
}

/* Whether a device that was reset leaves memory alone, with a request on its way and with another
 * that nobody is to see. */
static int silent_after_reset(void)
{
	for (int i = 0; i < 300; i++) {
		begin_well();
		request();
		if (i % 2)
			usleep(i);
		put(STATUS, uint8_t, 0);
		memset(page[2], 0x55, 4096);
		memset(page[3] + 16, 0x55, 4096 - 16);
		offer(0);
		usleep(200);
		for (int j = 0; j < 4096; j++)
			if (page[2][j] != 0x55 || (j >= 16 && page[3][j] != 0x55))
				return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t random = 88172645463325252;
	int fd = open(argc > 1 ? argv[1] : "", O_RDWR | O_SYNC);

	bar = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED || map())
		return perror("hostile_driver"), 1;
	expect("a good request", serves());

	begin(physical[0], physical[1], 1ULL << 40);
	expect("a queue outside of memory", stops());
	begin_well();
	descriptor(0, physical[3], 16, 1, 1);
	descriptor(1, physical[3], 16, 1, 0);
	offer(0);
	expect("a loop", stops());
	begin_well();
	descriptor(0, 0xfffffffffffff000ULL, 0x2000, 0, 0);
	offer(0);
	expect("a buffer outside of memory", stops());
	begin_well();
	offer(999);
	expect("a head that is none", stops());
	begin_well();
	((volatile uint16_t *)page[1])[1] = 1000;
	put(NOTIFY, uint16_t, 0);
	expect("an index that ran away", stops());
	expect("a good request after that", serves());

	expect("it stops each time", stops_each_time());
	expect("no memory is touched after a reset", silent_after_reset());
	expect("after resets in flight", serves());
	for (int i = 0; i < 20000; i++)
		put(NOTIFY, uint16_t, 0);
	expect("after a flood of doorbells", serves());
	begin_well();
	for (int i = 0; i < 3000; i++) {
		request();
		/* The ring changes while the device looks. */
		descriptor(i % 3, physical[3] + i % 4096, i, i % 8, i % 16);
	}
	expect("after a ring that changed underfoot", serves());
	for (int i = 0; i < 5000; i++) {
		random ^= random >> 12;
		random ^= random << 25;
		random ^= random >> 27;
		put(random % 4 ? random % 64 & ~3 : TABLE + random % 64 * 4, uint32_t, random >> 20);
	}
	expect("after writes to any register", serves());
	put(STATUS, uint8_t, 0);
	return 0;
}
