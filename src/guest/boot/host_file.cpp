// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/host_file.h"

#include "base/file_descriptor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace gnomon::guest {

Result<std::vector<std::byte>> read_host_file(const std::string& path, const char* what,
                                              u64 limit) {
    // Non-blocking, so that naming a FIFO is an error below and not a hang here.
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        return fail("cannot open the {} {}: {}; check the path and its permissions", what, path,
                    std::strerror(errno));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return fail("cannot examine the {} {}: {}", what, path, std::strerror(errno));
    if (!S_ISREG(status.st_mode))
        return fail("the {} {} is not a regular file; name a file", what, path);
    if (static_cast<u64>(status.st_size) > limit)
        return fail("the {} {} has {} bytes, more than the {} that are supported; is it the right "
                    "file?",
                    what, path, status.st_size, limit);
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
    std::size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t count = ::read(fd.get(), bytes.data() + filled, bytes.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail("cannot read the {} {}: {}", what, path, std::strerror(errno));
        if (count == 0) break;
        filled += static_cast<std::size_t>(count);
    }
    bytes.resize(filled);
    return bytes;
}

} // namespace gnomon::guest
