// SPDX-License-Identifier: Apache-2.0
/// @file Reading a whole file of the host into memory.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <cstddef>
#include <string>
#include <vector>

namespace gnomon::guest {

/// All bytes of the file at `path`.
/// @param what the file's role in an error message ("kernel", "busybox").
/// @param limit refuse larger files; guards against /dev/zero and the like.
/// Thread-safe; the file may change while it is read, then what was there at the time is returned.
[[nodiscard]] Result<std::vector<std::byte>> read_host_file(const std::string& path,
                                                            const char* what, u64 limit);

} // namespace gnomon::guest
