// SPDX-License-Identifier: Apache-2.0
#include "guest/init/program/ports.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

namespace gnomon::guest::init {

namespace {

/// Major number of ttyS*, and the minor number of ttyS0.
constexpr u64 serial_major = 4;
constexpr u64 serial_minor = 64;

int open_port(const char* path, u64 number, Line& reason) {
    long fd = system_call(__NR_open, path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd == -ENOENT) {
        system_call(__NR_mknod, path, S_IFCHR | 0600,
                    (serial_major << 8) | (serial_minor + number));
        fd = system_call(__NR_open, path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    }
    // A port without hardware opens all the same; asking for its modem lines shows it.
    int modem_lines = 0;
    long status = fd < 0 ? fd : system_call(__NR_ioctl, fd, TIOCMGET, &modem_lines);
    termios settings{};
    if (status >= 0) status = system_call(__NR_ioctl, fd, TCGETS, &settings);
    if (status >= 0) {
        settings.c_iflag = IGNBRK;
        settings.c_oflag = 0;
        settings.c_lflag = 0;
        settings.c_cflag = B115200 | CS8 | CREAD | CLOCAL;
        settings.c_cc[VMIN] = 1;
        settings.c_cc[VTIME] = 0;
        status = system_call(__NR_ioctl, fd, TCSETS, &settings);
    }
    if (status < 0) {
        reason << "cannot open the serial port " << path << ": " << error_text(-status);
        return -1;
    }
    return static_cast<int>(fd);
}

} // namespace

bool open_ports(Ports& ports, Line& reason) {
    // The control port first, so that the others' errors can be told.
    ports.control = open_port("/dev/ttyS3", 3, reason);
    if (ports.control < 0) return false;
    ports.data = open_port("/dev/ttyS1", 1, reason);
    if (ports.data < 0) return false;
    ports.error = open_port("/dev/ttyS2", 2, reason);
    return ports.error >= 0;
}

void drain(int port) { system_call(__NR_ioctl, port, TCSBRK, 1); }

void send(const Ports& ports, Line& line) {
    if (ports.control < 0) return;
    line.end();
    write_all(ports.control, line.data(), line.size());
    drain(ports.control);
}

} // namespace gnomon::guest::init
