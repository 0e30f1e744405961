// SPDX-License-Identifier: Apache-2.0
#include "platform/block/image_format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <optional>

namespace gnomon::platform {

namespace {

using namespace std::string_view_literals;

struct Signature {
    std::size_t offset;
    std::string_view bytes;
    std::string_view name;
};

/// Formats of which a guest's disk is only a part. Not here: what a guest may have as the first
/// bytes of a whole disk of its own (LUKS, file systems, boot sectors).
constexpr std::array head_signatures{
    Signature{0, "KDMV"sv, "VMDK image"},
    Signature{0, "COWD"sv, "VMDK image"},
    Signature{0, "# Disk DescriptorFile"sv, "VMDK descriptor"},
    Signature{0x40, "\x7f\x10\xda\xbe"sv, "VDI image"},
    Signature{0, "vhdxfile"sv, "VHDX image"},
    Signature{0, "conectix"sv, "VHD image"},
    Signature{0, "QED\0"sv, "QED image"},
    Signature{0, "WithoutFreeSpace"sv, "Parallels image"},
    Signature{0, "WithouFreSpacExt"sv, "Parallels image"},
    Signature{0, "Bochs Virtual HD Image"sv, "Bochs image"},
    Signature{0, "\x1f\x8b\x08"sv, "gzip file"},
    Signature{0,
              "\xfd"
              "7zXZ\0"sv,
              "xz file"},
    Signature{0, "\x28\xb5\x2f\xfd"sv, "zstd file"},
    Signature{0, "BZh"sv, "bzip2 file"},
    Signature{0, "PK\3\4"sv, "zip file"},
};

/// Formats that begin with the disk's contents and tell of themselves at the end.
constexpr std::array tail_signatures{
    Signature{0, "conectix"sv, "VHD image"},
    Signature{0, "koly"sv, "DMG image"},
};

bool has(std::span<const std::byte> bytes, const Signature& signature) {
    return bytes.size() >= signature.offset + signature.bytes.size() &&
           std::memcmp(bytes.data() + signature.offset, signature.bytes.data(),
                       signature.bytes.size()) == 0;
}

/// QEMU, docs/interop/qcow2.txt: all numbers are big-endian.
constexpr Signature qcow_magic{0, "QFI\xfb"sv, "qcow2 image"};
constexpr std::size_t qcow_version_at = 4, qcow_backing_offset_at = 8,
                      qcow_incompatible_features_at = 72;
constexpr u64 qcow_external_data_file = u64{1} << 2;

u64 big_endian(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
    u64 value = 0;
    for (std::size_t i = 0; i < size && at + i < bytes.size(); ++i)
        value |= std::to_integer<u64>(bytes[at + i]) << 8 * (size - 1 - i);
    return value;
}

ImageHead qcow(std::span<const std::byte> head) {
    const u64 version = big_endian(head, qcow_version_at, 4);
    if (version < 2) return {ImageKind::other, "qcow image of version 1"};
    const bool backing = big_endian(head, qcow_backing_offset_at, 8) != 0;
    const bool external = version >= 3 && (big_endian(head, qcow_incompatible_features_at, 8) &
                                           qcow_external_data_file) != 0;
    return {ImageKind::qcow2, qcow_magic.name, backing || external};
}

/// RFC 3986: a letter, then letters, digits, plus, dot and minus; "://" must follow.
std::optional<std::string> scheme_of(std::string_view location) {
    const std::size_t end = location.find("://");
    if (end == std::string_view::npos || end == 0) return std::nullopt;
    std::string scheme;
    for (const char c : location.substr(0, end)) {
        const auto byte = static_cast<unsigned char>(c);
        const bool letter = std::isalpha(byte) != 0;
        const bool later = std::isdigit(byte) != 0 || c == '+' || c == '.' || c == '-';
        if (byte >= 0x80 || !(letter || (later && !scheme.empty()))) return std::nullopt;
        scheme += static_cast<char>(std::tolower(byte));
    }
    return scheme;
}

} // namespace

ImageHead recognise_image(std::span<const std::byte> head, std::span<const std::byte> tail) {
    if (has(head, qcow_magic)) return qcow(head);
    for (const Signature& signature : head_signatures)
        if (has(head, signature)) return {ImageKind::other, signature.name};
    for (const Signature& signature : tail_signatures)
        if (has(tail, signature)) return {ImageKind::other, signature.name};
    return {};
}

Result<LocationKind> parse_location(std::string_view location) {
    if (location.empty()) return usage_error("a disk needs the name of its file");
    if (location.find('\0') != std::string_view::npos)
        return usage_error("a disk's name contains a zero byte");
    const auto scheme = scheme_of(location);
    if (!scheme) return LocationKind::file;
    if (*scheme == "nbd" || *scheme == "nbd+unix") return LocationKind::nbd;
    return usage_error("disk {}: there is no way to open {}:// here; serve it by NBD (nbdkit, "
                       "qemu-nbd) and name it as nbd://HOST/EXPORT or nbd+unix:///?socket=PATH "
                       "(a file of this name: ./{})",
                       location, *scheme, location);
}

} // namespace gnomon::platform
