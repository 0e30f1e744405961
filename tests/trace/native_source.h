// SPDX-License-Identifier: Apache-2.0
/// @file A source of real events for tests: runs a program on the host under ptrace, as strace
/// does.
#pragma once

#include "trace/tracer.h"

#include <string>
#include <vector>

namespace gnomon::trace::test {

/// Whether this process may trace its children here (containers can forbid it).
[[nodiscard]] bool can_trace();

/// Runs `command` (its first word is a path) to its end, with the same addresses every time, and
/// feeds every event of it and its descendants to `tracer`. @return false if it could not be
/// started or traced.
[[nodiscard]] bool run_traced(const std::vector<std::string>& command, Tracer& tracer);

} // namespace gnomon::trace::test
