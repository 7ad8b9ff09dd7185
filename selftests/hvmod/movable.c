// SPDX-License-Identifier: GPL-2.0
/*
 * movable MIB: memory of a guest that Linux could move, of which there is a zone, has to leave that
 * to be pinned. The program is killed meanwhile.
 */
#include <signal.h>
#include <sys/wait.h>

#include "partition.h"

static void pin(size_t size)
{
	struct partition p;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE))
		tap_bail_out("no memory");
	memset(memory, 1, size);
	partition_open(&p);
	kill(getpid(), SIGSTOP);
	map(&p, 0x10000000, memory, size, WRITABLE);
	/* Too early: nobody came to kill it. */
	exit(1);
}

int main(int argc, char **argv)
{
	size_t size = (size_t)(argc > 1 ? atoi(argv[1]) : 64) << 20;
	int delay, status, killed = 0;

	for (delay = 10; delay < 400; delay += delay) {
		pid_t child = fork();

		if (!child)
			pin(size);
		if (child < 0 || waitpid(child, &status, WUNTRACED) < 0 || !WIFSTOPPED(status))
			tap_bail_out("the other process did not come to pin");
		kill(child, SIGCONT);
		usleep(delay * 1000);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		killed += WIFSIGNALED(status);
	}
	printf("killed %d times while it pinned\n", killed);
	return killed ? 0 : 1;
}
