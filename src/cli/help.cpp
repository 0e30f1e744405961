// SPDX-License-Identifier: Apache-2.0
#include "cli/help.h"

namespace gnomon::cli {

namespace {

constexpr const char* machine_options_help = R"(
Machine options:
  --kernel FILE       a Linux bzImage, or an x86-64 ELF (vmlinux)
  --initrd FILE       initial RAM disk
  --append TEXT       kernel command line
  --memory SIZE       RAM, like 256M or 2G (default 512M); also -m
  --disk FILE[,OPT...]  a disk whose contents are in FILE (or a block device); several are possible.
                      model=virtio (default), nvme or ide, readonly, serial=TEXT, format=raw or qcow2
                      (otherwise other formats are refused, and qcow2 that names other files);
                      profile=none, hdd-7200, sata-ssd or nvme-ssd: the physical disk whose timing it
                      has (nvme: nvme-ssd, virtio: none);
                      ',,' is a comma in FILE; FILE may be an nbd:// or nbd+unix:// address
  --completions WHEN  when the guest learns that a disk is done: adaptive (default: as soon as it can
                      take it, at the latest after the delay of the disk's profile), nominal (after
                      that delay), immediate, or fixed=TIME after the request, such as 1ms
  --no-reboot         a reset of the guest ends Gnomon instead of starting the guest again
  --no-seccomp        for debugging Gnomon: do without the filter that takes from its process the system
                      calls that no machine needs
  --check-shadow N    for developers: compare the shadow tables with a strict walk of the guest's own
                      at every Nth coherency point (CR3 load, INVLPG ...); a difference ends the run
  --linear-views WHO  for developers: whose user code reaches memory by the host's MMU: none, busy
                      (default: address spaces that keep the processor busy) or all
  --stats[=json]      at the end, what the machine did and what the time went into, on stderr
  --perf-map FILE     for developers: write where translated code lies, for scripts/perf-guest.sh
  --log-level LEVEL   trace, debug, info, warn (default), error, critical or off; on stderr
  --config FILE       TOML file with the options above, by the same names without the dashes
                      (memory = "1G"; several disks as one string, one a line); options on the command line
                      win
)";

} // namespace

std::string version_text() { return "gnomon " GNOMON_VERSION; }

std::string general_help() {
    return R"(Gnomon runs x86-64 machines in user space, with neither /dev/kvm nor root, and shows from outside
what their programs ask of the kernel.

Usage:
  gnomon trace [OPTIONS] -- COMMAND [ARG...]   run a command in a guest; print its system calls
  gnomon trace [OPTIONS]                       the same for a whole machine
  gnomon run [OPTIONS]                         run a machine on this terminal
  gnomon COMMAND --help                        the options, with examples
  gnomon --version

Examples:
  gnomon trace -- sh -c 'ls /'
  gnomon trace -e trace=openat,%process -o calls.txt -- sh -c 'cat /proc/uptime'
  gnomon run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0'

Exit status: 2 for a wrong command line or configuration, 1 for anything else that goes wrong in
Gnomon, 128 and the signal's number if a signal ended it; otherwise as the command's help says.
)";
}

std::string run_help() {
    return std::string(R"(Usage: gnomon run --kernel FILE [OPTIONS]

Runs a machine with its first serial port (console=ttyS0 for Linux) on this terminal, or on stdin and
stdout if these are no terminal.
)") + machine_options_help +
           R"(
Keys, on a terminal:
  Ctrl-A X            end Gnomon
  Ctrl-A H            help
  Ctrl-A Ctrl-A       send Ctrl-A to the guest

Exit status: 0 when the guest powers off (with --no-reboot: or resets) and after Ctrl-A X; 1 after a
triple fault.

Examples:
  gnomon run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0 rdinit=/bin/sh'
  gnomon run --kernel vmlinux --memory 1G --no-reboot --stats=json 2>statistics.json
  gnomon run --kernel vmlinuz --initrd initrd.img --disk root.img --append 'console=ttyS0 root=/dev/vda'
  gnomon run --config machine.toml --memory 256M
)";
}

std::string trace_help() {
    return std::string(R"(Usage: gnomon trace [OPTIONS] -- COMMAND [ARG...]
       gnomon trace [OPTIONS]

Boots Linux in a machine of its own, runs COMMAND there, and prints every system call of every process
like strace, but from outside the machine: there is no agent in it. The command's stdin, stdout and
stderr are Gnomon's. Without a command it traces a whole machine, as `gnomon run` would run it.

Tracing, as in strace:
  -e trace=LIST       only these calls: names, %file, %process, %network ..., or !LIST for all others
  -f                  follow children: always on
  -o FILE             write the trace there instead of to stderr
  -c                  count calls, time and errors per call; print the table only
  -C                  print that table behind the trace
  -s N                show at most N bytes of a string (default 32)
  -a N                put results in column N (default 40)
  -t, -tt, -ttt       time of day; with microseconds; as seconds since 1970
  -r                  time since the line before
  -T                  time spent in the call
  --json              JSON Lines: one object per line, for programs

The guest of a command:
  --root DIR          its files (default: a small root file system made of busybox)
  --busybox FILE      the statically linked busybox to make the default one of
  --console FILE      write the kernel's messages there ("-": to stderr); otherwise they are shown only
                      when the guest fails to start
  --tty               give the command a terminal, for an interactive shell: this one goes into raw mode,
                      and Ctrl-A X ends Gnomon. Its stdout and stderr are one then
)") + machine_options_help +
           R"(
Without --kernel the kernel is the file that the environment variable GNOMON_KERNEL names, else the one
that scripts/fetch.sh fetched, else the newest readable /boot/vmlinuz*.

Exit status: the command's, or 128 and the number of the signal that ended it. For a whole machine as
with gnomon run.

Examples:
  gnomon trace -- sh -c 'echo hello | tr a-z A-Z'
  gnomon trace -e trace=%file -o calls.txt -- ls -l /
  gnomon trace -c --root ./rootfs -- /usr/bin/id
  gnomon trace --json -o calls.jsonl -- sort -r /proc/mounts
  gnomon trace --tty -o calls.txt -- sh
  gnomon trace -tt --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0'
)";
}

} // namespace gnomon::cli
