// SPDX-License-Identifier: Apache-2.0
/// @file Small helps with descriptors and threads that the endpoints share.
#pragma once

#include "base/file_descriptor.h"

#include <functional>
#include <thread>
#include <vector>

namespace gnomon::cli {

/// An event descriptor: readable from raise_event until lower_event. Never blocks.
[[nodiscard]] FileDescriptor make_event();
void raise_event(int event);
void lower_event(int event);
[[nodiscard]] bool event_raised(int event);

/// A thread to which the kernel delivers no signal of the process, so that their handlers run in
/// the threads that expect them. Stops by job control (SIGTTIN, SIGTTOU) and faults stay as they
/// are.
[[nodiscard]] std::thread thread_without_signals(std::function<void()> body);

/// Makes the descriptors 0, 1 and 2 exist (as /dev/null), so that no file of ours becomes one of
/// them.
void ensure_standard_descriptors();

/// The descriptors from 3 on that are open now; none where /proc is not there to say it.
[[nodiscard]] std::vector<int> descriptors_beyond_the_standard_ones();

} // namespace gnomon::cli
