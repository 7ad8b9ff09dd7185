// SPDX-License-Identifier: GPL-2.0
/*
 * kcore ADDRESS SIZE: says "zeros" or "other" of that part of /proc/kcore. "kernel" as
 * the address is where its first segment begins.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int any = argc == 3 && !strcmp(argv[1], "kernel"), file, i;
	uint64_t address, size, at;
	Elf64_Ehdr header;
	char *copy;

	if (argc != 3)
		return 2;
	address = strtoull(argv[1], NULL, 0);
	size = strtoull(argv[2], NULL, 0);
	copy = malloc(size);
	file = open("/proc/kcore", O_RDONLY);
	if (file < 0 || !copy || pread(file, &header, sizeof(header), 0) != sizeof(header)) {
		perror("/proc/kcore");
		return 1;
	}
	for (i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;
		ssize_t got;

		if (pread(file, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment)) !=
		    sizeof(segment))
			break;
		if (segment.p_type != PT_LOAD)
			continue;
		if (any)
			address = segment.p_vaddr;
		if (address < segment.p_vaddr || address + size > segment.p_vaddr + segment.p_memsz)
			continue;
		got = pread(file, copy, size, segment.p_offset + (address - segment.p_vaddr));
		if (got != (ssize_t)size) {
			printf("read %zd bytes\n", got);
			return 1;
		}
		for (at = 0; at < size && !copy[at]; at++)
			;
		puts(at == size ? "zeros" : "other");
		return 0;
	}
	puts("no such address");
	return 1;
}
