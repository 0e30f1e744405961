// SPDX-License-Identifier: Apache-2.0
#include "guest/init/program/filesystems.h"

#include "guest/init/program/system.h"

#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/sockios.h>
#include <linux/stat.h>

namespace gnomon::guest::init {

namespace {

struct Mount {
    const char* type;
    const char* directory;
    unsigned mode; ///< of the directory, if it must be made
    unsigned long flags;
    const char* options;
};

struct Node {
    const char* path;
    unsigned mode;
    unsigned major, minor;
};

constexpr Node nodes[] = {
    {"/dev/console", 0600, 5, 1}, {"/dev/tty", 0666, 5, 0},     {"/dev/ptmx", 0666, 5, 2},
    {"/dev/null", 0666, 1, 3},    {"/dev/zero", 0666, 1, 5},    {"/dev/full", 0666, 1, 7},
    {"/dev/random", 0666, 1, 8},  {"/dev/urandom", 0666, 1, 9},
};

struct Link {
    const char* target;
    const char* path;
};

constexpr Link links[] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

/// The kernel's `struct ifreq`, as far as flags go; its own header wants a C library.
struct InterfaceRequest {
    char name[16];
    short flags;
    char unused[22];
};
static_assert(sizeof(InterfaceRequest) == 40);

long mount(const Mount& m) {
    system_call(__NR_mkdir, m.directory, m.mode);
    return system_call(__NR_mount, m.type, m.directory, m.type, m.flags, m.options);
}

void raise_loopback() {
    constexpr int af_inet = 2, sock_dgram = 2, iff_up = 1;
    const long fd = system_call(__NR_socket, af_inet, sock_dgram, 0);
    if (fd < 0) return; // a kernel without networking
    InterfaceRequest request{"lo", 0, {}};
    if (system_call(__NR_ioctl, fd, SIOCGIFFLAGS, &request) >= 0) {
        request.flags = static_cast<short>(request.flags | iff_up);
        system_call(__NR_ioctl, fd, SIOCSIFFLAGS, &request);
    }
    system_call(__NR_close, fd);
}

} // namespace

void prepare_system() {
    system_call(__NR_umask, 022);
    mount({"proc", "/proc", 0555, MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr});
    mount({"sysfs", "/sys", 0555, MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr});
    mount({"devtmpfs", "/dev", 0755, MS_NOSUID, "mode=0755"});
    // Against the mask: these are for everyone.
    system_call(__NR_umask, 0);
    for (const Node& node : nodes)
        system_call(__NR_mknod, node.path, S_IFCHR | node.mode, (node.major << 8) | node.minor);
    system_call(__NR_mkdir, "/tmp", 01777);
    system_call(__NR_umask, 022);
    for (const Link& link : links)
        system_call(__NR_symlink, link.target, link.path);
    mount({"devpts", "/dev/pts", 0755, MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5"});
    mount({"tmpfs", "/dev/shm", 01777, MS_NOSUID | MS_NODEV, "mode=1777"});
    mount({"tmpfs", "/run", 0755, MS_NOSUID | MS_NODEV, "mode=0755"});
    raise_loopback();
    constexpr char host_name[] = "gnomon";
    system_call(__NR_sethostname, host_name, sizeof host_name - 1);
    // The command gets descriptors 0 to 2; nothing of init's may have these numbers.
    for (;;) {
        const long fd = system_call(__NR_open, "/dev/null", O_RDWR);
        if (fd < 0) break;
        if (fd > 2) {
            system_call(__NR_close, fd);
            break;
        }
    }
}

} // namespace gnomon::guest::init
