// SPDX-License-Identifier: Apache-2.0
/// @file A file in memory, for what is only read by its path.
#pragma once

#include "base/file_descriptor.h"
#include "fuzz/support/input.h"

#include <sys/mman.h>
#include <unistd.h>

namespace gnomon::fuzz {

class MemoryFile {
public:
    explicit MemoryFile(std::span<const u8> contents) : m_fd(::memfd_create("fuzz", MFD_CLOEXEC)) {
        require(static_cast<bool>(m_fd) && ::write(m_fd.get(), contents.data(), contents.size()) ==
                                               static_cast<ssize_t>(contents.size()),
                "no file in memory");
    }
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(m_fd.get()); }

private:
    FileDescriptor m_fd;
};

} // namespace gnomon::fuzz
