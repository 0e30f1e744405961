# SPDX-License-Identifier: Apache-2.0
"""The machine and the versions that a table belongs to."""

import datetime
import os
import platform
import re
import subprocess


def describe(project, gnomon, qemu, kernel):
    """Texts by name, in the order to show them. `gnomon` may be a build of its own, `qemu` None."""
    facts = {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} processors, {_memory()} MiB",
        "host": f"{_distribution()}, Linux {platform.release()}",
        "gnomon": f"{_output(gnomon, '--version')}, commit {_commit(project)}",
    }
    if qemu:
        facts["qemu"] = _output(qemu, "--version").splitlines()[0]
    facts["guest"] = f"{_kernel_version(kernel)}, Debian bookworm"
    return facts


def _output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _commit(project):
    commit = _output("git", "-C", str(project), "rev-parse", "--short=12", "HEAD")
    changes = _output("git", "-C", str(project), "status", "--porcelain", "--untracked-files=no")
    return commit if changes == "unknown" else commit + " with changes"


def _processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        match = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    return match.group(1).strip() if match else platform.machine()


def _memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _distribution():
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "unknown distribution"


def _kernel_version(kernel):
    """What the boot protocol's header says (Linux, Documentation/arch/x86/boot.rst, kernel_version)."""
    with open(kernel, "rb") as file:
        header = file.read(0x10000)
    if header[0x202:0x206] != b"HdrS":
        return kernel.name
    offset = int.from_bytes(header[0x20E:0x210], "little") + 0x200
    text = header[offset : offset + 128].split(b"\0")[0].decode("ascii", errors="replace")
    return "Linux " + text.split(" ")[0] if text else kernel.name
