// SPDX-License-Identifier: GPL-2.0
/*
 * kexec load|crash KERNEL INITRD COMMAND-LINE: gives Linux a kernel to start, now or
 * when it panics. kexec go: starts it, after the reboot notifiers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kernel, initrd;
	unsigned long flags;

	if (argc == 2 && !strcmp(argv[1], "go")) {
		sync();
		reboot(LINUX_REBOOT_CMD_KEXEC);
		perror("reboot");
		return 1;
	}
	if (argc != 5)
		return 2;
	flags = strcmp(argv[1], "crash") ? 0 : KEXEC_FILE_ON_CRASH;
	kernel = open(argv[2], O_RDONLY);
	initrd = open(argv[3], O_RDONLY);
	if (kernel < 0 || initrd < 0) {
		perror("open");
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[4]) + 1, argv[4], flags)) {
		printf("kexec_file_load: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}
