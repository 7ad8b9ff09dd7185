// SPDX-License-Identifier: GPL-2.0
/*
 * Moves bytes over a connection, by tcp or vsock, until their end:
 *   send tcp|vsock ADDRESS PORT      standard input to there
 *   receive tcp|vsock ADDRESS PORT   from there to standard output
 *   listen tcp|vsock any PORT        from the first who comes to standard output
 *   serve tcp|vsock any PORT         standard input to the first who comes
 */
#include <arpa/inet.h>
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
	struct sockaddr_vm vsock = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	struct sockaddr_in tcp = { .sin_family = AF_INET };
	int active, inward, by_tcp, fd;
	struct sockaddr *address;
	socklen_t size;
	char rest;

	if (argc != 5)
		return fprintf(stderr, "usage: see the source\n"), 2;
	active = !strcmp(argv[1], "send") || !strcmp(argv[1], "receive");
	inward = !strcmp(argv[1], "receive") || !strcmp(argv[1], "listen");
	by_tcp = !strcmp(argv[2], "tcp");
	vsock.svm_port = atoi(argv[4]);
	tcp.sin_port = htons(atoi(argv[4]));
	if (active) {
		vsock.svm_cid = atoi(argv[3]);
		inet_pton(AF_INET, argv[3], &tcp.sin_addr);
	}
	address = by_tcp ? (void *)&tcp : (void *)&vsock;
	size = by_tcp ? sizeof(tcp) : sizeof(vsock);

	fd = socket(address->sa_family, SOCK_STREAM, 0);
	if (fd < 0)
		return die("socket");
	if (active) {
		if (connect(fd, address, size))
			return die("connect");
	} else {
		int listener = fd;

		if (bind(listener, address, size) || listen(listener, 1))
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
