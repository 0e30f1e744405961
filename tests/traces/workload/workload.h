// SPDX-License-Identifier: Apache-2.0
/// @file The program whose calls strace, inside the guest, and Gnomon, outside, both trace.
///
/// Each subject is a function that makes calls of one kind, `rounds` times. What another thread or
/// process could change between a call and the moment at which strace looks at the call's memory is
/// never printed by strace: every thread has buffers of its own, and nobody writes to them.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/// Two pages that can be used, followed by one that is mapped to nothing. For text that ends at the
/// end of memory.
extern char* edge;
enum { edge_size = 8192 };

/// The path of the program itself, and of the 32-bit one.
extern const char* self_path;
extern const char* compat_path;

void run_threads(unsigned rounds);
void run_group_exit(unsigned rounds);
void run_signals(unsigned rounds);
void run_faults(unsigned rounds);
void run_restarts(unsigned rounds);
void run_processes(unsigned rounds);
void run_exec(unsigned rounds);
void run_files(unsigned rounds);
void run_memory(unsigned rounds);
void run_sockets(unsigned rounds);
void run_waiting(unsigned rounds);
void run_seccomp(unsigned rounds);
void run_compat(unsigned rounds);
void run_bad_pointers(unsigned rounds);

/// A tracer and its tracee. Not under strace, where nothing can be traced twice: prints what it saw
/// of the tracee on stdout, as "PID NAME RESULT" lines.
void run_ptrace(unsigned rounds);

/// In a new process: runs `body`, then ends with status 0. Waits for it. @return the wait status.
int in_child(void (*body)(void));

/// Ends the program loudly: the test itself went wrong.
_Noreturn void die(const char* what);
/// die() unless `good`.
void check(int good, const char* what);

/// A short sleep, as one call.
void rest(long nanoseconds);
