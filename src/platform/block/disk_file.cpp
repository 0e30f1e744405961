// SPDX-License-Identifier: Apache-2.0
#include "platform/block/disk_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <memory>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace gnomon::platform {

namespace {

constexpr u64 sector = 512;

// ---------------------------------------------------------------- opening

Result<> refuse_kind(const std::string& path, mode_t mode) {
    if (S_ISREG(mode) || S_ISBLK(mode)) return {};
    const char* const what = S_ISDIR(mode)    ? "a folder"
                             : S_ISFIFO(mode) ? "a pipe"
                             : S_ISCHR(mode)  ? "a character device"
                             : S_ISSOCK(mode) ? "a socket"
                                              : "no file";
    return usage_error("disk {}: it is {}; name an image file or a block device", path, what);
}

Result<> cannot_open(const std::string& path, bool read_only, int error) {
    switch (error) {
    case ENOENT:
        return usage_error("disk {}: there is no such file; make it with: truncate -s 10G {}", path,
                           path);
    case EACCES:
    case EPERM:
        if (!read_only && ::access(path.c_str(), R_OK) == 0) break;
        return fail("disk {}: it may not be {}: {}; change its permissions or owner", path,
                    read_only ? "read" : "read and written", std::strerror(error));
    case EROFS:
    case ETXTBSY: break;
    case EBUSY:
        return fail("disk {}: the host uses this device (mounted, or opened by another program); "
                    "release it, or add readonly",
                    path);
    default: return fail("disk {}: cannot open it: {}", path, std::strerror(error));
    }
    return fail("disk {}: it may not be written: {}; add readonly, or change its permissions", path,
                std::strerror(error));
}

/// Without waiting for the other end of a pipe, or for a medium.
/// @param exclusive for block devices: nobody else has it for himself, and nobody will.
Result<FileDescriptor> open_checked(const std::string& path, bool read_only, bool exclusive,
                                    struct stat& status) {
    if (::stat(path.c_str(), &status) != 0)
        return tl::unexpected(cannot_open(path, read_only, errno).error());
    if (auto kind = refuse_kind(path, status.st_mode); !kind) return tl::unexpected(kind.error());
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (read_only ? O_RDONLY : O_RDWR);
    if (S_ISBLK(status.st_mode) && exclusive) flags |= O_EXCL;
    FileDescriptor fd(::open(path.c_str(), flags));
    if (!fd) return tl::unexpected(cannot_open(path, read_only, errno).error());
    // It may be another file by now.
    if (::fstat(fd.get(), &status) != 0)
        return fail("disk {}: cannot look at it: {}", path, std::strerror(errno));
    if (auto kind = refuse_kind(path, status.st_mode); !kind) return tl::unexpected(kind.error());
    // io_uring takes the flag for a wish to get EAGAIN.
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
    return fd;
}

Result<u64> size_of(const std::string& path, const FileDescriptor& fd, const struct stat& status) {
    if (S_ISREG(status.st_mode)) return static_cast<u64>(status.st_size);
    u64 size = 0;
    if (::ioctl(fd.get(), BLKGETSIZE64, &size) != 0)
        return fail("disk {}: cannot find its size: {}", path, std::strerror(errno));
    return size;
}

Result<> check_size(const std::string& path, u64 size, bool device) {
    if (size == 0) {
        if (device) return fail("disk {}: the device is empty; put a medium in", path);
        return usage_error("disk {}: it is empty; give it a size with: truncate -s 10G {}", path,
                           path);
    }
    if (size % sector != 0)
        return usage_error("disk {}: its size, {} bytes, is not a multiple of {}; fill the last "
                           "sector with: truncate -s %{} {}",
                           path, size, sector, sector, path);
    if (size > largest_disk)
        return usage_error("disk {}: it has {} bytes, more than the {} that a disk can have", path,
                           size, largest_disk);
    return {};
}

/// A write beyond the limit would end the process by a signal.
Result<> check_limit(const std::string& path, u64 size) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        size <= limit.rlim_cur)
        return {};
    return fail("disk {}: with {} bytes it is beyond this process's limit for files; lift it with: "
                "ulimit -f unlimited",
                path, size);
}

// ---------------------------------------------------------------- locks

/// QEMU (docs of its file driver: "image locking"): each right that is used has a byte from 100 on,
/// each right that others may not use one from 200 on; both are held shared, and conflicts are
/// found by asking for the counterpart.
constexpr off_t used_base = 100, refused_base = 200;
enum Right : unsigned { right_read = 0, right_write = 1, right_resize = 3, rights_end = 5 };

struct flock byte_lock(short type, off_t at) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    return lock;
}

enum class Locked : u8 { yes, by_another, unsupported };

bool hold(int fd, off_t at, Locked& outcome) {
    struct flock lock = byte_lock(F_RDLCK, at);
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
    outcome = errno == EAGAIN || errno == EACCES ? Locked::by_another : Locked::unsupported;
    return false;
}

bool free_of(int fd, off_t at, Locked& outcome) {
    struct flock lock = byte_lock(F_WRLCK, at);
    if (::fcntl(fd, F_OFD_GETLK, &lock) == 0) {
        if (lock.l_type == F_UNLCK) return true;
        outcome = Locked::by_another;
    } else {
        outcome = Locked::unsupported;
    }
    return false;
}

/// All are held before any counterpart is asked for: of two that come at the same time at most one
/// goes on.
Locked lock_as_qemu(int fd, bool read_only) {
    unsigned used = 1U << right_read;
    if (!read_only) used |= 1U << right_write;
    const unsigned refused = 1U << right_write | 1U << right_resize;
    Locked outcome = Locked::yes;
    for (unsigned i = 0; i < rights_end; ++i) {
        if ((used >> i & 1) != 0 && !hold(fd, used_base + i, outcome)) return outcome;
        if ((refused >> i & 1) != 0 && !hold(fd, refused_base + i, outcome)) return outcome;
    }
    for (unsigned i = 0; i < rights_end; ++i) {
        if ((used >> i & 1) != 0 && !free_of(fd, refused_base + i, outcome)) return outcome;
        if ((refused >> i & 1) != 0 && !free_of(fd, used_base + i, outcome)) return outcome;
    }
    return outcome;
}

// ---------------------------------------------------------------- what it can do

struct Freed {
    void operator()(void* memory) const { std::free(memory); }
};

/// Whether 512 bytes can be read, with direct I/O, into memory that is aligned to `alignment` only.
bool reads_directly(int fd, std::size_t alignment) {
    const std::unique_ptr<std::byte, Freed> memory(
        static_cast<std::byte*>(std::aligned_alloc(page_size, 2 * page_size)));
    return memory != nullptr &&
           ::pread(fd, memory.get() + alignment % page_size, sector, 0) == sector;
}

/// Turns direct I/O on if any request of whole sectors can then be served. Devices with larger
/// blocks go through the page cache: read-modify-write of ours would have to be ordered against
/// everything else.
unsigned direct_alignment(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return 1;
    unsigned alignment = 0;
#ifdef STATX_DIOALIGN
    struct statx status {};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN) != 0) {
        if (status.stx_dio_offset_align != 0 && status.stx_dio_offset_align <= sector &&
            status.stx_dio_mem_align <= page_size && std::has_single_bit(status.stx_dio_mem_align))
            alignment = std::max(status.stx_dio_mem_align, 2U);
    } else
#endif
    {
        for (const unsigned candidate : {unsigned{sector}, unsigned{page_size}}) {
            if (!reads_directly(fd, candidate)) continue;
            alignment = candidate;
            break;
        }
    }
    if (alignment != 0) return alignment;
    ::fcntl(fd, F_SETFL, flags);
    return 1;
}

/// Devices that do not discard would write zeroes instead, which may take as long as that takes.
bool device_discards(dev_t device) {
    for (const char* const place : {"queue", "../queue"}) { // a disk, a partition
        const std::string path = fmt::format("/sys/dev/block/{}:{}/{}/discard_max_bytes",
                                             major(device), minor(device), place);
        const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd) continue;
        std::array<char, 32> text{};
        return ::read(fd.get(), text.data(), text.size() - 1) > 0 &&
               std::strtoull(text.data(), nullptr, 10) != 0;
    }
    return false;
}

Result<ImageHead> look_at(const std::string& path, int fd, u64 size) {
    std::array<std::byte, image_head_bytes> head{}, tail{};
    const ssize_t first = ::pread(fd, head.data(), head.size(), 0);
    const u64 tail_at = size > tail.size() ? size - tail.size() : 0;
    const ssize_t last = ::pread(fd, tail.data(), tail.size(), static_cast<off_t>(tail_at));
    if (first < 0 || last < 0)
        return fail("disk {}: cannot read it: {}", path, std::strerror(errno));
    return recognise_image(std::span(head).first(static_cast<std::size_t>(first)),
                           std::span(tail).first(static_cast<std::size_t>(last)));
}

} // namespace

Result<std::unique_ptr<DiskFile>> open_disk_file(const std::string& path, bool read_only) {
    struct stat status {
    }, lock_status{};
    auto lock = open_checked(path, read_only, !read_only, lock_status);
    if (!lock) return tl::unexpected(lock.error());
    auto fd = open_checked(path, read_only, false, status);
    if (!fd) return tl::unexpected(fd.error());
    if (status.st_dev != lock_status.st_dev || status.st_ino != lock_status.st_ino)
        return fail("disk {}: it was replaced while it was opened; try again", path);
    const auto size = size_of(path, *fd, status);
    if (!size) return tl::unexpected(size.error());
    const auto head = look_at(path, fd->get(), *size);
    if (!head) return tl::unexpected(head.error());
    auto file = std::make_unique<DiskFile>();
    file->path = path;
    file->descriptor = std::move(*fd);
    file->lock = std::move(*lock);
    file->device = S_ISBLK(status.st_mode);
    file->head = *head;
    file->traits.size = *size;
    file->traits.read_only = read_only;
    file->traits.discard = !file->device || device_discards(status.st_rdev);
    return file;
}

Result<> make_raw_disk(DiskFile& file, bool direct, DiskReports& reports) {
    HostTraits& traits = file.traits;
    const int fd = file.descriptor.get();
    if (auto good = check_size(file.path, traits.size, file.device); !good) return good;
    if (!file.device && !traits.read_only)
        if (auto good = check_limit(file.path, traits.size); !good) return good;
    switch (lock_as_qemu(file.lock.get(), traits.read_only)) {
    case Locked::yes: break;
    case Locked::by_another:
        return fail("disk {}: another program uses it (a virtual machine?); end that one, or let "
                    "both open it readonly",
                    file.path);
    case Locked::unsupported:
        reports.say("its file system has no locks; see to it that nothing else writes it");
    }
    if (direct) traits.memory_alignment = direct_alignment(fd);
    return {};
}

bool direct_possible(const DiskFile& file) {
    const int fd = file.descriptor.get(), flags = ::fcntl(fd, F_GETFL);
    if (::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
    ::fcntl(fd, F_SETFL, flags);
    return true;
}

} // namespace gnomon::platform
