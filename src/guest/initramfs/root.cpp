// SPDX-License-Identifier: Apache-2.0
#include "guest/initramfs/root.h"

#include "guest/boot/host_file.h"
#include "guest/boot/little_endian.h"
#include "guest/initramfs/cpio.h"

#include <cerrno>
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

namespace gnomon::guest {

namespace {

using Bytes = std::vector<std::byte>;

constexpr u64 busybox_limit = u64{64} << 20;

/// A name inside the archive, of an absolute path in the guest.
constexpr std::string_view in_archive(std::string_view path) { return path.substr(1); }

Result<> add_init(CpioWriter& writer, const CommandSpec& command) {
    const auto file = encode_command(command);
    if (!file) return tl::unexpected(file.error());
    return writer.add_directory(in_archive(wire::directory_path), 0700)
        .and_then(
            [&] { return writer.add_file(in_archive(wire::init_path), 0700, init_program()); })
        .and_then([&] { return writer.add_file(in_archive(wire::command_path), 0600, *file); });
}

/// Whether the ELF file has no interpreter, so that it runs in a root without libraries.
bool is_static_executable(std::span<const std::byte> file) {
    const auto header = read_at<Elf64_Ehdr>(file, 0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64)
        return false;
    for (u64 i = 0; i < header->e_phnum; ++i) {
        if (header->e_phoff > file.size()) return false;
        const auto program = read_at<Elf64_Phdr>(file, header->e_phoff + i * sizeof(Elf64_Phdr));
        if (!program || program->p_type == PT_INTERP) return false;
    }
    return true;
}

Result<> add_text(CpioWriter& writer, std::string_view name, std::string_view text) {
    return writer.add_file(name, 0644, std::as_bytes(std::span(text)));
}

Result<> add_busybox(CpioWriter& writer, std::span<const std::byte> busybox,
                     const std::vector<std::string>& applets) {
    if (auto added = writer.add_file("bin/busybox", 0755, busybox); !added) return added;
    for (const std::string& applet : applets) {
        if (applet == "busybox") continue;
        if (auto added = writer.add_symlink("bin/" + applet, "busybox"); !added) return added;
    }
    return writer.add_symlink("sbin", "bin")
        .and_then([&] { return writer.add_symlink("usr/bin", "../bin"); })
        .and_then([&] { return writer.add_symlink("usr/sbin", "../bin"); });
}

Result<> add_system_files(CpioWriter& writer) {
    struct Directory {
        std::string_view name;
        u32 mode;
    };
    constexpr Directory directories[] = {{"proc", 0555}, {"sys", 0555},     {"dev", 0755},
                                         {"run", 0755},  {"tmp", 01777},    {"root", 0700},
                                         {"home", 0755}, {"var", 0755},     {"var/tmp", 01777},
                                         {"mnt", 0755},  {"var/log", 0755}, {"etc", 0755}};
    for (const Directory& directory : directories)
        if (auto added = writer.add_directory(directory.name, directory.mode); !added) return added;
    return add_text(writer, "etc/passwd",
                    "root:x:0:0:root:/root:/bin/sh\n"
                    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
        .and_then([&] {
            return add_text(writer, "etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
        })
        .and_then([&] {
            return add_text(writer, "etc/hosts", "127.0.0.1 localhost gnomon\n::1 localhost\n");
        });
}

} // namespace

Result<Bytes> pack_root(const std::string& path, const CommandSpec& command) {
    struct stat status {};
    const std::string reserved = path + wire::directory_path;
    if (::lstat(reserved.c_str(), &status) == 0)
        return fail("{} exists, and the name is reserved for the command to run; rename it",
                    reserved);
    CpioWriter writer(initramfs_limit);
    const TreeOptions options{.owner_uid = ::geteuid(), .owner_gid = ::getegid()};
    return add_tree(writer, path, options)
        .and_then([&] { return add_init(writer, command); })
        .map([&] { return writer.finish(); });
}

Result<Bytes> make_busybox_root(const std::string& busybox_path, const CommandSpec& command) {
    const auto busybox = read_host_file(busybox_path, "busybox", busybox_limit);
    if (!busybox) return tl::unexpected(busybox.error());
    if (!is_static_executable(*busybox))
        return fail(
            "{} is not a static x86-64 executable; give a static busybox (Debian: the package "
            "busybox-static)",
            busybox_path);
    CpioWriter writer(initramfs_limit);
    return add_system_files(writer)
        .and_then([&] { return add_busybox(writer, *busybox, busybox_applets(busybox_path)); })
        .and_then([&] { return add_init(writer, command); })
        .map([&] { return writer.finish(); });
}

} // namespace gnomon::guest
