# SPDX-License-Identifier: Apache-2.0
"""Where rows are measured: each place turns an initramfs and parameters into the command to run.

All places run the same programs from the same initramfs. The machines get one virtual CPU, the same kernel, the same
memory and the same kernel command line. The command's standard output is the console.
"""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

KERNEL_PARAMETERS = "console=ttyS0 panic=-1"


@dataclasses.dataclass(frozen=True)
class Guest:
    """What a machine boots."""

    kernel: Path
    initrd: Path
    memory: int  # MiB


class Gnomon:
    """`gnomon run`."""

    def __init__(self, name, program, trace_options=None, trace_file=None):
        """With `trace_options`, `gnomon trace` with these, writing to `trace_file`."""
        self.name = name
        self._program = program
        self._trace_options = trace_options
        self.trace_file = trace_file

    def command(self, guest, parameters):
        action = ["run"]
        if self._trace_options is not None:
            action = ["trace", *self._trace_options, "-o", str(self.trace_file)]
        return [
            str(self._program), *action, "--kernel", str(guest.kernel), "--initrd", str(guest.initrd),
            "--memory", f"{guest.memory}M", "--no-reboot", "--append", f"{KERNEL_PARAMETERS} {parameters}",
        ]  # fmt: skip


class Qemu:
    """QEMU's TCG: a PC without anything that the guest does not need."""

    name = "tcg"
    trace_file = None

    def __init__(self, program):
        self._program = program

    def command(self, guest, parameters):
        return [
            str(self._program), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", str(guest.memory),
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", f"{KERNEL_PARAMETERS} {parameters}",
        ]  # fmt: skip


class Native:
    """A chroot on the host: the initramfs unpacked into a tmpfs, one processor, namespaces of its own."""

    name = "native"
    trace_file = None

    def __init__(self, directory):
        """`directory`: an empty folder to mount the tmpfs on; it is seen by the rows' processes only."""
        self._directory = Path(directory)

    def command(self, guest, parameters):
        driver = Path(__file__).resolve().parent
        unpack = "import sys; sys.path.insert(0, sys.argv[1]); import image; image.unpack(sys.argv[2], sys.argv[3])"
        root = self._directory
        script = "\n".join(
            (
                "set -e",
                f"mount -t tmpfs -o mode=755 bench {shlex.quote(str(root))}",
                shlex.join([sys.executable, "-B", "-c", unpack, str(driver), str(guest.initrd), str(root)]),
                f"cd {shlex.quote(str(root))}",
                "mount -t proc proc proc 2>/dev/null || mount --rbind /proc proc",
                "mount --rbind /dev dev",
                "cpu=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')",
                "export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C",
                f"exec taskset -c $cpu chroot . /bench/runner {parameters}",
            )
        )
        return self._in_namespaces(["sh", "-c", script])

    def reason_against(self):
        """Why it cannot be had here, or None."""
        for tool in ("unshare", "taskset", "chroot", "mount"):
            if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
                return f"{tool} is missing"
        probe = self._in_namespaces(["mount", "-t", "tmpfs", "bench", str(self._directory)])
        tried = subprocess.run(probe, capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            return "no namespaces of its own: " + (tried.stderr.strip().splitlines() or ["unshare failed"])[-1]
        return None

    @staticmethod
    def _in_namespaces(command):
        namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            namespaces.append("--map-root-user")
        return ["unshare", *namespaces, *command]
