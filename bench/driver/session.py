# SPDX-License-Identifier: Apache-2.0
"""One run of one place: starts the command, reads its console, and tells what the rows said."""

import contextlib
import dataclasses
import functools
import os
import re
import selectors
import signal
import subprocess
import time

# A guest's clock may differ from the host's by this much of a row's time, and by this many seconds.
CLOCK_TOLERANCE = 0.05
CLOCK_SLACK = 0.1

# The lines of the guests' runner (bench/guest/runner.cpp); other lines are the kernel's.
BEGIN = re.compile(r"BEGIN (\w+) (\d+)")
VALUE = re.compile(r"ROW (\w+) (-?\d+(?:\.\d+)?) ns")
END = re.compile(r"END (\w+) (\d+)")


@dataclasses.dataclass
class Memory:
    """Resident memory of a monitor, in MiB."""

    peak: float  # of all, guest memory included
    outside_guest: float | None  # at the end, without the guest's memory; None if it cannot be told


@dataclasses.dataclass
class Session:
    """What came of one run."""

    values: dict = dataclasses.field(default_factory=dict)  # row: value in ns
    failures: list = dataclasses.field(default_factory=list)  # lines of text
    warnings: list = dataclasses.field(default_factory=list)
    marks: dict = dataclasses.field(default_factory=dict)  # text: seconds from the start to the first line with it
    memory: Memory | None = None


def resident_memory(pid, guest_mebibytes):
    """A Memory of process `pid`, or None if /proc does not tell."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            peak = next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), None)
    except OSError:
        return None
    if peak is None:
        return None
    outside = 0
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            is_guest = False
            for line in file:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    is_guest = False
                elif line.startswith("Size:"):
                    is_guest = int(line.split()[1]) >= guest_mebibytes * 1024 * 9 // 10
                elif line.startswith("Rss:") and not is_guest:
                    outside += int(line.split()[1])
    except OSError:
        outside = None
    return Memory(peak / 1024, None if outside is None else outside / 1024)


class _Reader:
    """Takes the console's lines as they come."""

    def __init__(self, session, progress, start, place, listen):
        self._session = session
        self._listen = listen
        self._progress = progress
        self._start = start
        self._place = place
        self._began = {}
        self._pending = b""
        self.done = False

    def feed(self, data, when):
        self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", errors="replace").strip(), when)

    def _line(self, line, when):
        session = self._session
        if self._listen is not None:
            self._listen(line)
        if line in ("READY", "BOOTED"):
            session.marks.setdefault(line, when - self._start)
        elif line == "DONE":
            self.done = True
        elif line.startswith("FAIL "):
            session.failures.append(f"{self._place}: {line[5:]}")
        elif match := BEGIN.fullmatch(line):
            self._progress(self._place, match[1])
            self._began[match[1]] = (when, int(match[2]))
        elif match := VALUE.fullmatch(line):
            session.values[match[1]] = float(match[2])
        elif (match := END.fullmatch(line)) and match[1] in self._began:
            host_start, guest_start = self._began.pop(match[1])
            host, guest = when - host_start, (int(match[2]) - guest_start) / 1e9
            if abs(host - guest) > CLOCK_TOLERANCE * host + CLOCK_SLACK:
                session.warnings.append(
                    f"{self._place}: {match[1]} took {guest:.2f} s by the guest's clock and {host:.2f} s by the host's"
                )


def _give_priority(pid):
    """Linux groups processes by session, and then nice counts within a session only (sched(7), autogroup): gives the
    session of `pid` the nice value that this process has.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice == 0:
        return
    with contextlib.suppress(FileNotFoundError):  # a kernel without such groups
        with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as file:
            file.write(str(nice))


def run(place, guest, parameters, wanted, progress, silence=240, listen=None):
    """Runs `place`'s command until it ends and returns its Session.

    wanted: the rows that must report, () for a boot. progress: called with the place's name and a row as it begins.
    silence: seconds without a word after which the command is ended. listen: called with the process's number and
    each line of the console as it comes.
    """
    session = Session()
    start = time.monotonic()
    process = subprocess.Popen(
        place.command(guest, parameters),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    _give_priority(process.pid)
    reader = _Reader(session, progress, start, place.name, listen and functools.partial(listen, process.pid))
    errors = b""
    try:
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdout, process.stderr):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(timeout=silence)
                when = time.monotonic()
                if not ready:
                    session.failures.append(f"{place.name}: ended after {silence} s of silence")
                    os.killpg(process.pid, signal.SIGKILL)
                    break
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        was_done = reader.done
                        reader.feed(data, when)
                        if reader.done and not was_done:
                            session.memory = resident_memory(process.pid, guest.memory)
                    else:
                        errors = (errors + data)[-4000:]
        status = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()
    missing = [name for name in wanted if name not in session.values]
    if status != 0 or (missing and not session.failures):
        text = errors.decode("utf-8", errors="replace").strip().splitlines()
        session.failures.append(f"{place.name}: ended with status {status}{': ' + text[-1] if text else ''}")
    for name in missing:
        session.failures.append(f"{place.name}: no value for {name}")
    return session
