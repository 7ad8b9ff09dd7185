// SPDX-License-Identifier: GPL-2.0
/* Makes a partition and ends; a process that inherits it, whose number is told, stays. */
#include "partition.h"

int main(void)
{
	struct partition p;
	pid_t heir;

	partition_open(&p);
	heir = fork();
	if (heir < 0)
		tap_bail_out("fork: %s", strerror(errno));
	if (!heir) {
		/* Who waits for the output's end waits for the first process alone. */
		close(1);
		close(2);
		for (;;)
			pause();
	}
	printf("%d\n", heir);
	return 0;
}
