// SPDX-License-Identifier: Apache-2.0
/// @file What the process gives up before it runs a guest: files (Landlock) and system calls
/// (seccomp). docs/threat-model.md says what each step holds against whom.
///
/// Both steps set PR_SET_NO_NEW_PRIVS, hold until the process ends, and are inherited by threads
/// that are made later. Neither needs a privilege. What is changed is the process as a whole, so
/// there is nothing to own: functions, not objects.
#pragma once

#include "base/result.h"

#include <span>
#include <string>

namespace gnomon::sandbox {

/// False in builds that are instrumented (sanitizers, coverage): the run-time libraries of these
/// read /proc and write files whenever they like. `restrict_files` and `restrict_system_calls` do
/// nothing there.
[[nodiscard]] bool supported();

/// A file that may still be opened by its path after `restrict_files`.
struct OpenableFile {
    std::string path; ///< links are followed now, once; what is not there is left out
    bool write = false;
};

struct FileRestriction {
    bool active = false;
    int abi = 0;        ///< Landlock's ABI version, from 1 on; 0: the kernel has none
    std::string reason; ///< why it is not active
};

/// Takes from the calling thread, and from those that it makes later, every access by path:
/// opening, making, renaming and removing files, and where the kernel knows these (Landlock ABI 4,
/// 5 and 6) binding and connecting TCP sockets, ioctl on devices opened later, abstract Unix
/// sockets and signals to processes outside. Descriptors that are open stay as they are. To be
/// called while no other thread of ours exists: Landlock restricts threads, not processes.
///
/// A kernel without Landlock is no error: the result says so, and seccomp keeps the same door shut.
/// Linux, Documentation/userspace-api/landlock.rst.
[[nodiscard]] FileRestriction restrict_files(std::span<const OpenableFile> kept);

/// What a machine needs beyond what every machine does.
struct SystemCallNeeds {
    bool disks = false;        ///< input and output with the disks' files, which are open
    bool disk_servers = false; ///< messages to and from servers of disks, whose sockets are open
};

/// Takes from all threads of the process every system call but those that a running machine needs
/// (the table in system_calls.cpp, which says why for each). A call that is not among them is not
/// executed; `last_words`, which must be async-signal-safe, is called, one line on stderr names the
/// call's number, and the process ends with status 1. A call by another ABI (i386, x32) kills it.
///
/// Signals: takes SIGSYS for itself. Threads that shall be able to say the line leave SIGSYS
/// unblocked; in others the signal kills without a word.
/// @return an error that names the way out where the kernel does not let the process do this.
[[nodiscard]] Result<> restrict_system_calls(void (*last_words)(),
                                             const SystemCallNeeds& needs = {});

} // namespace gnomon::sandbox
