// SPDX-License-Identifier: Apache-2.0
#include "guest/init/program/system.h"

#include <asm/errno.h>
#include <asm/poll.h>
#include <linux/fcntl.h>

// The compiler may call these for copies and initialisations, C library or not.
extern "C" {
void* memcpy(void* to, const void* from, size_t size) {
    auto* t = static_cast<char*>(to);
    const auto* f = static_cast<const char*>(from);
    while (size-- != 0)
        *t++ = *f++;
    return to;
}
void* memmove(void* to, const void* from, size_t size) {
    auto* t = static_cast<char*>(to);
    const auto* f = static_cast<const char*>(from);
    if (t <= f) return memcpy(to, from, size);
    while (size-- != 0)
        t[size] = f[size];
    return to;
}
void* memset(void* to, int value, size_t size) {
    auto* t = static_cast<char*>(to);
    while (size-- != 0)
        *t++ = static_cast<char>(value);
    return to;
}
}

namespace gnomon::guest::init {

const char* error_text(long error) {
    switch (error) {
    case EPERM: return "Operation not permitted";
    case ENOENT: return "No such file or directory";
    case EIO: return "Input/output error";
    case ENXIO: return "No such device or address";
    case E2BIG: return "Argument list too long";
    case ENOEXEC: return "Exec format error";
    case ENOMEM: return "Cannot allocate memory";
    case EACCES: return "Permission denied";
    case ENODEV: return "No such device";
    case ENOTDIR: return "Not a directory";
    case EISDIR: return "Is a directory";
    case EINVAL: return "Invalid argument";
    case ENFILE: return "Too many open files in system";
    case EMFILE: return "Too many open files";
    case ETXTBSY: return "Text file busy";
    case ENAMETOOLONG: return "File name too long";
    case ELOOP: return "Too many levels of symbolic links";
    case ELIBBAD: return "Accessing a corrupted shared library";
    default: return "Unexpected error";
    }
}

bool write_all(int fd, const char* data, size_t size) {
    while (size != 0) {
        const long written = system_call(__NR_write, fd, data, size);
        if (written > 0) {
            data += written;
            size -= static_cast<size_t>(written);
        } else if (written == -EAGAIN) {
            pollfd waiting{fd, POLLOUT, 0};
            system_call(__NR_poll, &waiting, 1, -1);
        } else if (written != -EINTR) {
            return false;
        }
    }
    return true;
}

void set_nonblocking(int fd) {
    const long flags = system_call(__NR_fcntl, fd, F_GETFL, 0);
    if (flags >= 0) system_call(__NR_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
}

} // namespace gnomon::guest::init
