// SPDX-License-Identifier: Apache-2.0
/// @file The guest's first process: prepares the system, runs one command between the serial ports,
/// reports how it ended and powers the machine off. The protocol is in guest/init/wire.h.

#include "guest/init/program/command.h"
#include "guest/init/program/filesystems.h"
#include "guest/init/program/ports.h"
#include "guest/init/program/relay.h"
#include "guest/init/wire.h"

#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/reboot.h>
#include <linux/signalfd.h>

namespace gnomon::guest::init {

namespace {

[[noreturn]] void power_off() {
    system_call(__NR_sync);
    system_call(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF,
                nullptr);
    // A machine without power-off: stop here, for the kernel panics when its first process ends.
    for (;;)
        system_call(__NR_pause);
}

[[noreturn]] void fail(const Ports& ports, const Line& reason) {
    Line line;
    char text[512];
    __builtin_memcpy(text, reason.data(), reason.size());
    text[reason.size()] = '\0';
    line << wire::error << " " << text;
    if (ports.control >= 0) {
        send(ports, line);
    } else {
        const long console = system_call(__NR_open, "/dev/console", O_WRONLY | O_NOCTTY);
        line.end();
        if (console >= 0) write_all(static_cast<int>(console), line.data(), line.size());
    }
    power_off();
}

/// SIGCHLD as a descriptor to poll, so that no handler is needed.
int open_child_events() {
    const u64 mask = u64{1} << (SIGCHLD - 1);
    system_call(__NR_rt_sigprocmask, SIG_BLOCK, &mask, nullptr, sizeof mask);
    return static_cast<int>(
        system_call(__NR_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK));
}

void report(const Ports& ports, int status) {
    Line line;
    const unsigned signal = static_cast<unsigned>(status) & 0x7f;
    if (signal == 0)
        line << wire::exit << " " << ((static_cast<unsigned>(status) >> 8) & 0xff);
    else
        line << wire::signal << " " << signal;
    send(ports, line);
}

[[noreturn]] void run() {
    Ports ports;
    Line reason;
    Command command;
    Process process;
    prepare_system();
    if (!open_ports(ports, reason)) fail(ports, reason);
    Line ready;
    send(ports, ready << wire::ready);
    if (!read_command(command, reason)) fail(ports, reason);
    // The command's view of the root directory is the user's own.
    system_call(__NR_unlink, wire::command_path);
    system_call(__NR_unlink, wire::init_path);
    system_call(__NR_rmdir, wire::directory_path);
    const int child_events = open_child_events();
    if (!spawn(command, process, reason)) fail(ports, reason);
    Line started;
    send(ports, started << wire::started << " " << static_cast<u64>(process.pid));
    release(process);
    report(ports, relay(ports, process, command, child_events));
    power_off();
}

} // namespace

} // namespace gnomon::guest::init

// The kernel enters with the stack pointer aligned to 16 bytes, as a call to a function must find
// it.
extern "C" [[noreturn]] void gnomon_guest_init_main() { gnomon::guest::init::run(); }
asm(".globl _start\n"
    "_start:\n"
    "    xorl %ebp, %ebp\n"
    "    call gnomon_guest_init_main\n");
