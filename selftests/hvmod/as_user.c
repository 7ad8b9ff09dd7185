// SPDX-License-Identifier: GPL-2.0
/*
 * as_user ID PROGRAM [ARGUMENTS]: runs a program as the user and in the group of that number,
 * without any capability. Busybox finds no user in the lab's machine.
 */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3 || setgroups(0, NULL) || setgid(atoi(argv[1])) || setuid(atoi(argv[1]))) {
		fprintf(stderr, "usage: as_user ID PROGRAM [ARGUMENTS], as root\n");
		return 126;
	}
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
