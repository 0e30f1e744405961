// SPDX-License-Identifier: Apache-2.0
/// @file Host failures as values: `Result<T>` holds a T or an Error that says what failed and the
/// way out.
///
/// The three kinds of error (never mixed): a guest's fault is a value delivered to the guest; a
/// host failure is a Result; a broken invariant stops the process (base/verify.h).
#pragma once

#include <fmt/format.h>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace gnomon {

/// For the user: what failed, by the name of the file or option, and what to do.
struct Error {
    std::string message; ///< one line, without a newline at its end
    /// Whether the user's command line or configuration is wrong (exit status 2), rather than the
    /// world (1).
    bool usage = false;
    /// Lines of their own that follow the message: a processor's state, a console's last words.
    std::string details{};
};

template <class T = void>
using Result = tl::expected<T, Error>;

template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
    return tl::unexpected(Error{fmt::format(format, std::forward<Args>(args)...), false, {}});
}

template <class... Args>
[[nodiscard]] tl::unexpected<Error> usage_error(fmt::format_string<Args...> format,
                                                Args&&... args) {
    return tl::unexpected(Error{fmt::format(format, std::forward<Args>(args)...), true, {}});
}

} // namespace gnomon
