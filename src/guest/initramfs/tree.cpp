// SPDX-License-Identifier: Apache-2.0
#include "base/file_descriptor.h"
#include "guest/initramfs/cpio.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <map>
#include <memory>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace gnomon::guest {

namespace {

/// Deeper trees than this are loops or jokes; the walk recurses.
constexpr unsigned depth_limit = 512;

/// File systems that show a kernel's state: their files are endless or meaningless elsewhere.
bool is_kernel_file_system(const std::string& path) {
    struct statfs status {};
    if (::statfs(path.c_str(), &status) != 0) return false;
    constexpr std::array<unsigned long, 14> types{
        PROC_SUPER_MAGIC,    SYSFS_MAGIC,    DEVPTS_SUPER_MAGIC, CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,  TRACEFS_MAGIC,      SECURITYFS_MAGIC,
        PSTOREFS_MAGIC,      EFIVARFS_MAGIC, BPF_FS_MAGIC,       NSFS_MAGIC,
        BINFMTFS_MAGIC,      SELINUX_MAGIC};
    return std::ranges::find(types, static_cast<unsigned long>(status.f_type)) != types.end();
}

class TreeWalk {
public:
    TreeWalk(CpioWriter& writer, std::string root, const TreeOptions& options)
        : m_writer(writer), m_root(std::move(root)), m_options(options) {}

    /// Adds what `relative` (a directory; "" is the root) contains.
    Result<> walk(const std::string& relative, unsigned depth) {
        const std::string path = host_path(relative);
        if (depth > depth_limit)
            return fail("{} lies more than {} directories deep; leave it out", path, depth_limit);
        const auto names = list(path);
        if (!names) return tl::unexpected(names.error());
        for (const std::string& name : *names)
            if (auto added = add(relative.empty() ? name : relative + "/" + name, depth); !added)
                return added;
        return {};
    }

private:
    [[nodiscard]] std::string host_path(const std::string& relative) const {
        return relative.empty() ? m_root : m_root + "/" + relative;
    }

    static tl::unexpected<Error> cannot_read(const std::string& path) {
        return fail("cannot read {} for the initramfs: {}; make it readable or leave it out", path,
                    std::strerror(errno));
    }

    /// The writer knows names below the root only.
    [[nodiscard]] tl::unexpected<Error> refused(const Error& error) const {
        return fail("{}: {}", m_root, error.message);
    }

    static Result<std::vector<std::string>> list(const std::string& path) {
        const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
        if (directory == nullptr) return cannot_read(path);
        std::vector<std::string> names;
        for (;;) {
            errno = 0;
            const dirent* entry = ::readdir(directory.get());
            if (entry == nullptr) break;
            const std::string_view name = entry->d_name;
            if (name != "." && name != "..") names.emplace_back(name);
        }
        if (errno != 0) return cannot_read(path);
        std::ranges::sort(names);
        return names;
    }

    Result<> add(const std::string& relative, unsigned depth) {
        const std::string path = host_path(relative);
        struct stat status {};
        if (::lstat(path.c_str(), &status) != 0) return cannot_read(path);
        CpioEntry entry{.name = relative,
                        .mode = status.st_mode,
                        .uid = map_owner(status.st_uid, m_options.owner_uid),
                        .gid = map_owner(status.st_gid, m_options.owner_gid),
                        .mtime = static_cast<u32>(std::clamp<i64>(status.st_mtime, 0, UINT32_MAX)),
                        .links = 1};
        if (S_ISDIR(status.st_mode)) {
            entry.links = 2;
            if (auto added = m_writer.add(entry, 0); !added) return refused(added.error());
            return is_kernel_file_system(path) ? Result<>() : walk(relative, depth + 1);
        }
        if (S_ISREG(status.st_mode)) return add_regular(std::move(entry), path, status);
        if (S_ISLNK(status.st_mode)) return add_link(entry, path);
        if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
            entry.device_major = ::major(status.st_rdev);
            entry.device_minor = ::minor(status.st_rdev);
        }
        if (auto added = m_writer.add(entry, 0); !added) return refused(added.error());
        return {};
    }

    Result<> add_regular(CpioEntry entry, const std::string& path, const struct stat& status) {
        if (status.st_nlink > 1) {
            entry.links = static_cast<u32>(std::min<u64>(status.st_nlink, UINT32_MAX));
            const auto [known, fresh] = m_inodes.try_emplace({status.st_dev, status.st_ino}, 0);
            if (fresh) known->second = m_writer.new_inode();
            entry.inode = known->second;
            if (!fresh) { // the first name of the file has the contents
                if (auto added = m_writer.add(entry, 0); !added) return refused(added.error());
                return {};
            }
        }
        const FileDescriptor fd(
            ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        if (!fd) return cannot_read(path);
        const auto place = m_writer.add(entry, static_cast<u64>(status.st_size));
        if (!place) return refused(place.error());
        std::size_t filled = 0;
        while (filled < place->size()) {
            const ssize_t count = ::read(fd.get(), place->data() + filled, place->size() - filled);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return cannot_read(path);
            if (count == 0)
                return fail(
                    "{} became shorter while it was read; try again when nothing writes to it",
                    path);
            filled += static_cast<std::size_t>(count);
        }
        return {};
    }

    Result<> add_link(const CpioEntry& entry, const std::string& path) {
        std::array<char, PATH_MAX> target{};
        const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
        if (size < 0) return cannot_read(path);
        const auto place = m_writer.add(entry, static_cast<u64>(size));
        if (!place) return refused(place.error());
        std::memcpy(place->data(), target.data(), place->size());
        return {};
    }

    static u32 map_owner(u32 owner, u32 user) { return owner == user ? 0 : owner; }

    CpioWriter& m_writer;
    std::string m_root;
    TreeOptions m_options;
    std::map<std::pair<dev_t, ino_t>, u32> m_inodes; ///< of files with several names
};

} // namespace

Result<> add_tree(CpioWriter& writer, const std::string& directory, const TreeOptions& options) {
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0)
        return fail("cannot open the directory {}: {}; check the path", directory,
                    std::strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return fail("{} is not a directory; name one that holds a root file system", directory);
    return TreeWalk(writer, directory, options).walk("", 0);
}

} // namespace gnomon::guest
