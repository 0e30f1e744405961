// SPDX-License-Identifier: Apache-2.0
#include "guest/initramfs/cpio.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <sys/stat.h>

namespace gnomon::guest {

namespace {

constexpr std::string_view end_mark = "TRAILER!!!";
constexpr u64 header_size = 110;
constexpr u64 alignment = 4;
constexpr std::size_t name_limit = 4095; // Linux's PATH_MAX without the NUL

} // namespace

void CpioWriter::pad() {
    m_bytes.resize((m_bytes.size() + (alignment - 1)) & ~std::size_t{alignment - 1});
}

void CpioWriter::append_header(const CpioEntry& entry, u64 size) {
    const std::string text = fmt::format(
        "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
        entry.inode, entry.mode, entry.uid, entry.gid, entry.links, entry.mtime, size, 0,
        0, // the device that holds the file: one for all, so inode numbers are unique
        entry.device_major, entry.device_minor, entry.name.size() + 1,
        0); // checksum: none in this format
    const auto append = [&](std::string_view s) {
        const auto bytes = std::as_bytes(std::span(s));
        m_bytes.insert(m_bytes.end(), bytes.begin(), bytes.end());
    };
    append(text);
    append(entry.name);
    m_bytes.push_back(std::byte{0});
    pad();
}

Result<std::span<std::byte>> CpioWriter::add(const CpioEntry& entry, u64 size) {
    if (entry.name.empty() || entry.name.size() > name_limit ||
        entry.name.find('\0') != std::string::npos || entry.name == end_mark)
        return fail("{:?} cannot be the name of a file in an initramfs; rename it", entry.name);
    if (size > std::numeric_limits<u32>::max())
        return fail("{} has {} bytes, and an initramfs holds files below 4 GiB only; use a disk",
                    entry.name, size);
    const u64 used = m_bytes.size() + header_size + entry.name.size() + 2 * alignment;
    if (used > m_limit || size > m_limit - used)
        return fail(
            "the files for the initramfs need more than {} MiB ({} is one too many); leave some "
            "out, or use a disk",
            m_limit >> 20, entry.name);
    CpioEntry numbered = entry;
    if (numbered.inode == 0) numbered.inode = new_inode();
    append_header(numbered, size);
    if (S_ISDIR(entry.mode)) m_directories.insert(entry.name);
    const std::size_t begin = m_bytes.size();
    m_bytes.resize(begin + static_cast<std::size_t>(size));
    pad();
    return std::span(m_bytes).subspan(begin, static_cast<std::size_t>(size));
}

Result<> CpioWriter::add_with_contents(std::string_view name, u32 mode,
                                       std::span<const std::byte> contents) {
    for (std::size_t slash = name.find('/'); slash != std::string_view::npos;
         slash = name.find('/', slash + 1))
        if (const auto parent = name.substr(0, slash); !has_directory(parent))
            if (auto added =
                    add({.name = std::string(parent), .mode = S_IFDIR | 0755, .links = 2}, 0);
                !added)
                return tl::unexpected(std::move(added.error()));
    const u32 links = S_ISDIR(mode) ? 2 : 1;
    auto place = add({.name = std::string(name), .mode = mode, .links = links}, contents.size());
    if (!place) return tl::unexpected(std::move(place.error()));
    if (!contents.empty()) std::memcpy(place->data(), contents.data(), contents.size());
    return {};
}

Result<> CpioWriter::add_file(std::string_view name, u32 mode,
                              std::span<const std::byte> contents) {
    return add_with_contents(name, S_IFREG | mode, contents);
}

Result<> CpioWriter::add_directory(std::string_view name, u32 mode) {
    return add_with_contents(name, S_IFDIR | mode, {});
}

Result<> CpioWriter::add_symlink(std::string_view name, std::string_view target) {
    return add_with_contents(name, S_IFLNK | 0777, std::as_bytes(std::span(target)));
}

std::vector<std::byte> CpioWriter::finish() {
    append_header({.name = std::string(end_mark)}, 0);
    return std::move(m_bytes);
}

} // namespace gnomon::guest
