// SPDX-License-Identifier: Apache-2.0
#include "base/file_descriptor.h"
#include "base/types.h"
#include "sandbox/sandbox.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gnomon::sandbox {

namespace {

/// struct landlock_ruleset_attr as of ABI 6; the build's own header may know only its beginning.
struct RulesetAttributes {
    u64 handled_access_fs = 0;
    u64 handled_access_net = 0;
    u64 scoped = 0;
};

/// What an ABI version adds: rights to handle, and the size of the structure that it reads.
struct AbiVersion {
    u64 access_fs; ///< all up to this version
    u64 access_net;
    u64 scoped;
    std::size_t attribute_size;
};

constexpr u64 bits(unsigned count) { return (u64{1} << count) - 1; }

/// Rights are numbered in the order in which they came: 13 in version 1, REFER in 2, TRUNCATE in 3,
/// IOCTL_DEV in 5; TCP bind and connect in 4; abstract Unix sockets and signals in 6.
constexpr std::array<AbiVersion, 6> versions{{
    {bits(13), 0, 0, 8},
    {bits(14), 0, 0, 8},
    {bits(15), 0, 0, 8},
    {bits(15), bits(2), 0, 16},
    {bits(16), bits(2), 0, 16},
    {bits(16), bits(2), bits(2), 24},
}};

/// Rights that may be granted for something that is no directory.
constexpr u64 read_file = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr u64 write_file = LANDLOCK_ACCESS_FS_WRITE_FILE;

int probe_abi() {
    return static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

void keep(int ruleset, const OpenableFile& file) {
    const FileDescriptor place(::open(file.path.c_str(), O_PATH | O_CLOEXEC));
    struct stat status {};
    // A folder would bring all that is in it.
    if (!place || ::fstat(place.get(), &status) != 0 || S_ISDIR(status.st_mode)) return;
    landlock_path_beneath_attr rule{};
    rule.allowed_access = file.write ? write_file : read_file;
    rule.parent_fd = place.get();
    // Fails for what is on no file system, such as a pipe; Landlock does not look at these either.
    static_cast<void>(
        ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0));
}

FileRestriction inactive(int abi, const char* what) {
    return {false, abi, fmt::format("{}: {}", what, std::strerror(errno))};
}

} // namespace

FileRestriction restrict_files(std::span<const OpenableFile> kept) {
    if (!supported()) return {false, 0, "this build is instrumented"};
    const int abi = probe_abi();
    if (abi < 1) return inactive(0, "the kernel has no Landlock");
    const AbiVersion& version =
        versions[std::min(static_cast<std::size_t>(abi), versions.size()) - 1];
    const RulesetAttributes attributes{version.access_fs, version.access_net, version.scoped};
    const FileDescriptor ruleset(static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, &attributes, version.attribute_size, 0)));
    if (!ruleset) return inactive(abi, "landlock_create_ruleset");
    for (const OpenableFile& file : kept)
        keep(ruleset.get(), file);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return inactive(abi, "PR_SET_NO_NEW_PRIVS");
    if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
        return inactive(abi, "landlock_restrict_self");
    return {true, abi, {}};
}

} // namespace gnomon::sandbox
