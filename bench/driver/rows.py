# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmark: their names, what they are, and how the driver gets them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table. Its value is a time for one operation, so that less is better everywhere."""

    name: str
    what: str  # what an operation is
    group: str  # the rows of a group are measured in one boot; "startup": each value is a boot
    target: float | None = None  # times faster than TCG: what the project's first round of speed aims at


ROWS = (
    Row("boot", "Linux to the first line of init, console=ttyS0", "startup", 1.5),
    Row("boot_quiet", "the same with `quiet`", "startup", 1.5),
    Row("null_call", "getppid by syscall()", "kernel"),
    Row("stat", "stat of /usr/bin", "kernel"),
    Row("pipe", "a byte to another process and back, by two pipes", "kernel", 4),
    Row("switch_2x0", "context switch in a ring of 2 processes, less the pipe's own cost", "kernel", 4),
    Row("switch_8x16", "the same, 8 processes that each read 16 KiB", "kernel", 4),
    Row("signal_install", "sigaction", "kernel", 4),
    Row("signal_catch", "kill of oneself, handler, return", "kernel", 4),
    Row("fork", "fork, exit, wait", "kernel", 2),
    Row("fork_exec", "fork, exec of a static program of three instructions, wait", "kernel", 2),
    Row("fault_anon", "first write to an anonymous page", "kernel", 2),
    Row("fault_file", "first write to a page of a mapped tmpfs file", "kernel", 2),
    Row("mmap", "mmap of 64 KiB, one write, munmap", "kernel"),
    Row("fft", "complex FFT of 4096 points, double", "compute", 10),
    Row("matrix", "product of matrices, 80 x 80, double", "compute", 4),
    Row("double", "a term of a sum: conversion, product, division", "compute"),
    Row("call_return", "a call of a recursive function", "compute"),
    Row("call_indirect", "a call through one of four pointers", "compute"),
    Row("shell_loop", "20,000 rounds of dash arithmetic", "programs", 5),
    Row("shell_script", "script of about 60 small commands", "programs", 2),
    Row("sqlite", "10,000 rows in memory: insert, index, aggregate, join", "programs", 5),
    Row("python", "objects, dictionaries, strings, sorting", "programs", 5),
    Row("hackbench", "10 processes, 5 x 5 pairs, 100 messages over pipes", "programs", 4),
    Row("gzip", "a MiB of text, -6", "codecs", 2),
    Row("7zz", "half a MiB of text, LZMA, one thread", "codecs", 2),
    Row("openssl_sha256", "a MiB, blocks of 8 KiB", "codecs", 15),
    Row("openssl_aes", "a MiB by AES-128-CBC, blocks of 8 KiB", "codecs", 15),
    Row("openssl_gcm", "a MiB by AES-128-GCM, blocks of 8 KiB", "codecs", 15),
    Row("openssl_rsa", "a signature by RSA with 2048 bits", "codecs", 15),
)

# The work of a quick run: every kind, fewer of each.
NOT_QUICK = ("boot_quiet", "signal_install", "call_return", "call_indirect", "openssl_gcm")


def groups(rows):
    """The groups of `rows` in their order, each as (name, its rows)."""
    found = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return list(found.items())
