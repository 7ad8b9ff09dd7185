/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HVBENCH_H
#define HVBENCH_H

#include <stddef.h>
#include <stdint.h>

/* Says what failed and why, and ends the program. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory for a guest, cleared and present. */
void *guest_memory(size_t size);

/* VM exits so far: of the guest, and of the root because of it. */
struct exits {
	uint64_t guest;
	uint64_t root;
};

/* What the guest did that user space must answer. */
struct event {
	enum { EVENT_OUT, EVENT_IN, EVENT_READ } kind;
	uint16_t port;
	uint32_t value;		/* that was written */
};

/*
 * A hypervisor's interface. `run` continues the guest, answering the last event
 * with `answer` where it was a read, until the next event.
 */
struct interface {
	const char *name;
	void (*create)(void *ram, void *reset_page);
	void (*run)(uint32_t answer, struct event *event);
	struct exits (*exits)(void);
};

extern const struct interface kvm, mshv;

int boot_kvm(int argc, char **argv);

static inline uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

#endif
