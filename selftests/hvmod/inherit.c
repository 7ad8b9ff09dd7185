// SPDX-License-Identifier: GPL-2.0
/*
 * inherit [mapped]: makes a partition and ends; a process that inherits it, whose number is told,
 * stays: with the files open, or with nothing but a page of its VP mapped.
 */
#include "partition.h"

int main(int argc, char **argv)
{
	struct partition p;
	pid_t heir;

	partition_open(&p);
	heir = fork();
	if (heir < 0)
		tap_bail_out("fork: %s", strerror(errno));
	if (!heir) {
		if (argc > 1) {
			if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.vp, 0) == MAP_FAILED)
				return 1;
			close(p.vp);
			close(p.fd);
			close(p.device);
		}
		/* Who waits for the output's end waits for the first process alone. */
		close(1);
		close(2);
		for (;;)
			pause();
	}
	printf("%d\n", heir);
	return 0;
}
