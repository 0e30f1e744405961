# SPDX-License-Identifier: Apache-2.0
"""From the start of the process to the guest's first instruction, taken from outside."""

import os
import subprocess
import time


def first_instruction(gnomon, kernel, mebibytes, repeat=9):
    """The least number of milliseconds from the start of `gnomon` to the byte that `kernel` sends by its first
    instructions; `kernel` is an ELF file, so that unpacking a kernel is not in it. None if no byte came.
    """
    least = None
    for _ in range(repeat):
        start = time.monotonic()
        with subprocess.Popen(
            [str(gnomon), "run", "--kernel", str(kernel), "--no-reboot", "--memory", f"{mebibytes}M"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            byte = os.read(process.stdout.fileno(), 1)
            taken = (time.monotonic() - start) * 1e3
            if byte != b"!":
                process.kill()
                return None
        least = taken if least is None else min(least, taken)
    return least
