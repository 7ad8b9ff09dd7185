// SPDX-License-Identifier: GPL-2.0
/*
 * hvctl run at a terminal: keys reach the guest, the escape key ends the run, and however
 * it ends the terminal is what it was before.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

/* The session's leader, which has the terminal; hvctl is its job. */
struct session {
	pid_t leader, hvctl;
	int terminal;
	char said[1 << 16];
	size_t length;
};

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static bool is_cooked(int terminal)
{
	struct termios modes;

	return !tcgetattr(terminal, &modes) && (modes.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG);
}

/* Collects what the terminal shows until it is `text`. */
static bool shows(struct session *s, const char *text)
{
	double until = seconds() + 120;

	while (!memmem(s->said, s->length, text, strlen(text))) {
		struct pollfd fd = { .fd = s->terminal, .events = POLLIN };
		ssize_t got = 0;

		if (seconds() > until || s->length == sizeof(s->said))
			return false;
		if (poll(&fd, 1, 200) > 0)
			got = read(s->terminal, s->said + s->length, sizeof(s->said) - s->length);
		if (got < 0)
			return false;
		s->length += got;
	}
	return true;
}

/*
 * hvctl with a payload, as a job of a session leader that stays until its status is asked
 * for, as a shell would. It exits with the job's status, 200 + n for signal n.
 */
static void begin(struct session *s, const char *payload, bool background)
{
	int report[2];

	memset(s, 0, sizeof(*s));
	if (pipe2(report, O_CLOEXEC))
		tap_bail_out("pipe: %s", strerror(errno));
	s->leader = forkpty(&s->terminal, NULL, NULL, NULL);
	if (s->leader < 0)
		tap_bail_out("forkpty: %s", strerror(errno));
	if (!s->leader) {
		pid_t job = fork();
		int status;

		signal(SIGTTOU, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		if (!job) {
			setpgid(0, 0);
			if (!background)
				tcsetpgrp(0, getpid());
			signal(SIGTTOU, SIG_DFL);
			signal(SIGHUP, SIG_DFL);
			execl("./hvctl", "hvctl", "run", "--kernel", payload, "--memory", "16", "--exit-port",
			      "--timeout", "250", NULL);
			_exit(127);
		}
		if (write(report[1], &job, sizeof(job)) != sizeof(job))
			_exit(127);
		while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status))
			if (write(1, "(stopped)", 9) != 9)
				_exit(127);
		tcsetpgrp(0, getpid());
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status));
	}
	close(report[1]);
	if (read(report[0], &s->hvctl, sizeof(s->hvctl)) != sizeof(s->hvctl))
		tap_bail_out("no job");
	close(report[0]);
}

/* hvctl's helper puts it back a moment after hvctl's end by SIGKILL. */
static bool gets_cooked(int terminal)
{
	double until = seconds() + 10;

	while (!is_cooked(terminal) && seconds() < until)
		usleep(20000);
	return is_cooked(terminal);
}

static void type(struct session *s, const char *keys)
{
	if (write(s->terminal, keys, strlen(keys)) < 0)
		tap_note("typing: %s", strerror(errno));
}

static void ends(struct session *s, const char *what, int wanted)
{
	struct pollfd fd = { .fd = s->terminal, .events = POLLIN };
	int status = 0;
	double until = seconds() + 60;

	/* What it still says must not fill the terminal. */
	while (waitpid(s->leader, &status, WNOHANG) == 0 && seconds() < until) {
		if (poll(&fd, 1, 50) > 0 && s->length < sizeof(s->said)) {
			ssize_t got = read(s->terminal, s->said + s->length, sizeof(s->said) - s->length);

			s->length += got > 0 ? got : 0;
		}
	}
	if (seconds() >= until) {
		kill(s->hvctl, SIGKILL);
		waitpid(s->leader, &status, 0);
	}
	tap_equal(what, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status, wanted);
}

int main(void)
{
	static struct session s;
	int keep;

	/* A guest that ends by itself. */
	begin(&s, "echo.elf", false);
	keep = open(ptsname(s.terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
	tap(shows(&s, "type:"), "the guest's output is shown");
	tap(shows(&s, "Ctrl-] ends the run"), "hvctl says which key ends the run");
	tap(!is_cooked(keep), "the terminal is raw while it runs");
	type(&s, "\003\032\034abc");
	tap(shows(&s, "\003\032\034ABC"), "Ctrl-C, Ctrl-Z and Ctrl-\\ go to the guest");
	type(&s, ".");
	ends(&s, "a guest that ends by itself: status 1", 1);
	tap(is_cooked(keep), "  and the terminal is as it was");
	close(keep);
	close(s.terminal);

	static const struct {
		const char *name;
		int signal, status;
	} ways[] = {
		{ "the escape key", 0, 12 },
		{ "SIGINT", SIGINT, 130 },
		{ "SIGTERM", SIGTERM, 143 },
		{ "SIGHUP", SIGHUP, 129 },
		{ "SIGQUIT", SIGQUIT, 131 },
		{ "SIGKILL", SIGKILL, 200 + SIGKILL },
	};
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		char name[64];

		begin(&s, "echo.elf", false);
		keep = open(ptsname(s.terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (!shows(&s, "type:"))
			tap_note("no output");
		if (ways[i].signal)
			kill(s.hvctl, ways[i].signal);
		else
			type(&s, "x\035");
		snprintf(name, sizeof(name), "%s: status %d", ways[i].name, ways[i].status);
		ends(&s, name, ways[i].status);
		tap(ways[i].signal == SIGKILL ? gets_cooked(keep) : is_cooked(keep), "  and the terminal is as it was");
		close(keep);
		close(s.terminal);
	}

	/* The terminal goes away. */
	begin(&s, "spin.elf", false);
	if (!shows(&s, "looping"))
		tap_note("no output");
	close(s.terminal);
	double until = seconds() + 30;
	while (!kill(s.hvctl, 0) && seconds() < until)
		usleep(50000);
	tap(kill(s.hvctl, 0) && errno == ESRCH, "when the terminal is closed the run ends");
	kill(s.hvctl, SIGKILL);
	waitpid(s.leader, NULL, 0);

	/* Another job has the terminal. */
	begin(&s, "spin.elf", true);
	keep = open(ptsname(s.terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
	tap(shows(&s, "looping"), "in the background the guest runs too");
	tap(is_cooked(keep), "  and leaves the terminal alone");
	type(&s, "something\n");
	usleep(500000);
	kill(s.hvctl, SIGTERM);
	ends(&s, "  and ends by a signal", 143);
	tap(!memmem(s.said, s.length, "(stopped)", 9), "  and was not stopped for reading the terminal");
	close(keep);
	close(s.terminal);
	return tap_finish();
}
