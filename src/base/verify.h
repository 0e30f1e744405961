// SPDX-License-Identifier: Apache-2.0
/// @file VERIFY: a broken invariant of ours stops the process, in release builds too. No guest
/// input may reach it.
#pragma once

namespace gnomon {

[[noreturn]] void verification_failed(const char* expression, const char* file, int line);

} // namespace gnomon

#define VERIFY(expression)                                                                         \
    (static_cast<bool>(expression)                                                                 \
         ? static_cast<void>(0)                                                                    \
         : ::gnomon::verification_failed(#expression, __FILE__, __LINE__))
