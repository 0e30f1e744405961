// SPDX-License-Identifier: Apache-2.0
/// @file Archives in cpio's "newc" format, as Linux unpacks them into its initial root file system
/// (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::guest {

/// What an archive says of one file. The fields are as stat(2) has them.
struct CpioEntry {
    std::string name{}; ///< relative to the root, without a leading slash; at most 4095 bytes
    u32 mode = 0;       ///< type and permissions
    u32 uid = 0, gid = 0;
    u32 mtime = 0; ///< seconds since 1970
    u32 links = 1;
    u32 inode = 0; ///< 0: a fresh one. Hard links to one file share theirs, which new_inode() gives
    u32 device_major = 0, device_minor = 0; ///< of a device node
};

/// Builds an archive in memory. Not thread-safe.
class CpioWriter {
public:
    /// @param limit the size in bytes beyond which adding fails.
    explicit CpioWriter(u64 limit) : m_limit(limit) {}

    /// Adds an entry with `size` bytes of contents.
    /// @return where the contents go, for the caller to fill; valid until the next call of any
    /// member.
    [[nodiscard]] Result<std::span<std::byte>> add(const CpioEntry& entry, u64 size);

    /// Adds a root-owned file, directory or symbolic link, and those of the directories above it
    /// that the archive does not have yet. Modes are permissions only.
    [[nodiscard]] Result<> add_file(std::string_view name, u32 mode,
                                    std::span<const std::byte> contents);
    [[nodiscard]] Result<> add_directory(std::string_view name, u32 mode);
    [[nodiscard]] Result<> add_symlink(std::string_view name, std::string_view target);

    [[nodiscard]] u32 new_inode() { return ++m_last_inode; }
    [[nodiscard]] bool has_directory(std::string_view name) const {
        return m_directories.find(name) != m_directories.end();
    }

    /// Adds the end mark and gives the archive away; the writer must not be used afterwards.
    [[nodiscard]] std::vector<std::byte> finish();

private:
    [[nodiscard]] Result<> add_with_contents(std::string_view name, u32 mode,
                                             std::span<const std::byte> contents);
    void append_header(const CpioEntry& entry, u64 size);
    void pad();

    u64 m_limit;
    u32 m_last_inode = 0;
    std::vector<std::byte> m_bytes;
    std::set<std::string, std::less<>> m_directories;
};

/// How the files of a host directory become the guest's.
struct TreeOptions {
    /// The host's user whose files belong to root in the guest, as in a user namespace; other
    /// owners are kept. The effective user, by default of the callers; ignored when it is root.
    u32 owner_uid = 0;
    u32 owner_gid = 0;
};

/// Adds everything below `directory` (not the directory itself) under the same relative names: all
/// file types, modes, times, hard links. Symbolic links are kept, never followed. Kernel file
/// systems mounted below it (proc, sysfs, ...) become empty directories. Order is by name, so that
/// the same tree gives the same archive. Errors name the file.
[[nodiscard]] Result<> add_tree(CpioWriter& writer, const std::string& directory,
                                const TreeOptions& options);

} // namespace gnomon::guest
