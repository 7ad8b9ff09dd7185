// SPDX-License-Identifier: GPL-2.0
/*
 * insmod_once FILE [PARAMETERS]: loads a module by one call, whose errno is the status. Busybox's
 * insmod makes another when the first one fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file, failed;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: insmod_once FILE [PARAMETERS]\n");
		return 2;
	}
	file = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (file >= 0 && !syscall(SYS_finit_module, file, argc == 3 ? argv[2] : "", 0))
		return 0;
	failed = errno;
	perror(argv[1]);
	return failed;
}
