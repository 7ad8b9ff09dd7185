/* SPDX-License-Identifier: GPL-2.0 */
/* For tests in C: results as TAP. */
#ifndef HVMOD_TEST_TAP_H
#define HVMOD_TEST_TAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_number, tap_failed;

/* One result; with a false `passed`, what follows says why. */
__attribute__((format(printf, 2, 3), unused))
static bool tap(bool passed, const char *format, ...)
{
	va_list arguments;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_number);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	tap_failed += !passed;
	return passed;
}

__attribute__((format(printf, 1, 2), unused))
static void tap_note(const char *format, ...)
{
	va_list arguments;

	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

/* Two numbers that must be the same. */
__attribute__((unused))
static bool tap_equal(const char *name, unsigned long long got, unsigned long long wanted)
{
	bool passed = tap(got == wanted, "%s", name);

	if (!passed)
		tap_note("got %#llx, wanted %#llx", got, wanted);
	return passed;
}

__attribute__((format(printf, 1, 2), noreturn, unused))
static void tap_bail_out(const char *format, ...)
{
	va_list arguments;

	printf("Bail out! ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	exit(1);
}

/* The plan comes last. The exit status. */
__attribute__((unused))
static int tap_finish(void)
{
	printf("1..%d\n", tap_number);
	fflush(stdout);
	return tap_failed != 0;
}

#endif
