/*
 * Lets User-Mode Linux older than 6.13 run on processors whose registers take more room than it
 * knows, as those with AMX do. It saves and sets the first part of them, and ptrace(2) refuses to
 * set anything but the whole (NT_X86_XSTATE): here the rest stays as it is.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Alignas(64) char registers[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	va_start(rest, request);
	pid_t process = va_arg(rest, pid_t);
	void *address = va_arg(rest, void *);
	void *data = va_arg(rest, void *);
	va_end(rest);

	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
		struct iovec *part = data;
		struct iovec whole = { registers, sizeof registers };
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, process, address, &whole) == 0 &&
		    whole.iov_len > part->iov_len) {
			memcpy(registers, part->iov_base, part->iov_len);
			data = &whole;
		}
		return syscall(SYS_ptrace, request, process, address, data);
	}
	/* The system call writes what it read where the library's function returns it. */
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word = 0;
		if (syscall(SYS_ptrace, request, process, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	}
	return syscall(SYS_ptrace, request, process, address, data);
}
