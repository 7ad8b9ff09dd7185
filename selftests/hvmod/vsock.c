// SPDX-License-Identifier: GPL-2.0
/*
 * Moves bytes over a socket of AF_VSOCK, as nc does over TCP:
 *   send CID PORT      standard input to there
 *   receive CID PORT   from there to standard output
 *   listen PORT        from the first who comes to standard output
 *   serve PORT         standard input to the first who comes
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int die(const char *what)
{
	perror(what);
	return 1;
}

static int copy(int from, int to)
{
	static char buffer[1 << 16];
	ssize_t got;

	while ((got = read(from, buffer, sizeof(buffer))) > 0)
		for (ssize_t done = 0, put; done < got; done += put)
			if ((put = write(to, buffer + done, got - done)) < 0)
				return die("write");
	return got ? die("read") : 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	const char *what = argc > 1 ? argv[1] : "";
	int active = !strcmp(what, "send") || !strcmp(what, "receive");
	int inward = !strcmp(what, "receive") || !strcmp(what, "listen");
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	char rest;

	if (argc != 3 + active)
		return fprintf(stderr, "usage: see the source\n"), 2;
	if (fd < 0)
		return die("socket");
	address.svm_port = atoi(argv[argc - 1]);
	if (active) {
		address.svm_cid = atoi(argv[2]);
		if (connect(fd, (void *)&address, sizeof(address)))
			return die("connect");
	} else {
		int listener = fd;

		if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1))
			return die("listen");
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			return die("accept");
	}
	if (inward)
		return copy(fd, 1);
	if (copy(0, fd))
		return 1;
	/* All of it has arrived when the other side ends the connection. */
	shutdown(fd, SHUT_WR);
	return read(fd, &rest, 1) ? 1 : 0;
}
