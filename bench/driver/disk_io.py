# SPDX-License-Identifier: Apache-2.0
"""bench/io.sh: requests to disks, in Gnomon under each completion policy and in QEMU's TCG."""

import contextlib
import dataclasses
import json
import os
import re
import statistics
import sys
import time

import disks
import image
import places as place_kinds
import schedule
import session as sessions
import table

HELP = """Boots the same kernel with the same disk image in Gnomon, under each completion policy, and in QEMU's TCG with
the same controller (aio=io_uring), loads the disk from one program in the guest, and prints a table for each model.
Latencies are the guest's, interrupts what its kernel counted, CPU time that of the monitor's whole process on the host.
"native" is the same program on the host and the image file. The file is read and written past the host's page cache
where its file system allows it; one in memory (--folder /dev/shm) shows the monitors without the host's disk.
bench/io.sh installs (as root) and builds what is missing first."""

DEPTHS = (1, 4, 16, 64)
JOBS = tuple(f"{pattern}_4_{depth}" for pattern in ("randread", "randwrite") for depth in DEPTHS) + (
    "read_1024_1", "write_1024_1",
)  # fmt: skip
POLICIES = ("adaptive", "nominal", "immediate", "fixed=1ms")
AIM = 2.0  # times TCG's requests, under the default policy
AIMED = re.compile(r"rand(read|write)_4_(1|16)")
AIMED_MODELS = ("nvme", "virtio")

DETAILS = re.compile(r"IO (\w+) requests=(\d+) p50=(\d+) p99=(\d+) max=(\d+) interrupts=(\d+)")


@dataclasses.dataclass
class Outcome:
    """One job in one boot; times in nanoseconds."""

    requests: int
    per_request: float  # of the run's time
    p50: int
    p99: int
    longest: int
    interrupts: int
    cpu: float | None = None  # of the monitor, for all requests

    def value(self, name):
        """By the names of the tables and the JSON file; None if not measured."""
        if name == "iops":
            return 1e9 / self.per_request
        if name == "interrupts":
            return self.interrupts / self.requests
        if name == "cpu":
            return None if self.cpu is None else self.cpu / self.requests
        return getattr(self, name)


VALUES = ("iops", "p50", "p99", "interrupts", "cpu")


def processor_time(pid):
    """Nanoseconds that all threads of a process have run for, also those that ended; None if it is gone."""
    clock = (~pid << 3) | 2  # as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a process
    try:
        return time.clock_gettime_ns(clock)
    except OSError:
        return None


class Listener:
    """Takes the load's lines of one boot."""

    def __init__(self):
        self.outcomes = {}  # by job
        self._details = {}
        self._began = {}

    def __call__(self, pid, line):
        words = line.split()
        if len(words) == 3 and words[0] == "BEGIN":
            self._began[words[1]] = processor_time(pid)
        elif match := DETAILS.fullmatch(line):
            self._details[match[1]] = [int(text) for text in match.groups()[1:]]
        elif len(words) == 3 and words[0] == "END" and words[1] in self._details:
            begin, end = self._began.get(words[1]), processor_time(pid)
            requests, p50, p99, longest, interrupts = self._details[words[1]]
            cpu = None if begin is None or end is None else end - begin
            self.outcomes[words[1]] = Outcome(requests, 0.0, p50, p99, longest, interrupts, cpu)

    def finish(self, session):
        """The outcomes of jobs that also have a time, by job."""
        for job, outcome in self.outcomes.items():
            outcome.per_request = session.values.get(job) or 0.0
        return {job: outcome for job, outcome in self.outcomes.items() if outcome.per_request > 0}


class Measured:
    """Outcomes by model, place and job, pair by pair."""

    def __init__(self):
        self._outcomes = {}
        self.failures = []
        self.warnings = []

    def add(self, model, place, outcomes, jobs):
        """`outcomes` by job; a job that is missing there failed."""
        for job in jobs:
            self._outcomes.setdefault((model, place, job), []).append(outcomes.get(job))

    def median(self, model, place, job, name):
        found = [one.value(name) for one in self._outcomes.get((model, place, job), []) if one is not None]
        found = [value for value in found if value is not None]
        return statistics.median(found) if found else None

    def ratio(self, model, over, under, job):
        """The median of the pairs' ratios of requests a second, or None."""
        pairs = zip(self._outcomes.get((model, over, job), []), self._outcomes.get((model, under, job), []))
        found = [under_.per_request / over_.per_request for over_, under_ in pairs if over_ and under_]
        return statistics.median(found) if found else None

    def data(self):
        """For JSON."""
        return [
            {
                "model": model, "place": place, "job": job,
                "pairs": [one and {name: one.value(name) for name in (*VALUES, "longest", "requests")} for one in pairs],
            }
            for (model, place, job), pairs in self._outcomes.items()
        ]  # fmt: skip


@contextlib.contextmanager
def disk_image(folder, mebibytes):
    """A file of bytes that do not repeat, all of them allocated; removed at the end."""
    path = folder / f"io-disk.{os.getpid()}.img"
    try:
        with open(path, "wb") as file:
            block = os.urandom(1 << 20)
            for number in range(mebibytes):
                file.write(number.to_bytes(8, "little") + block[8:])
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


@dataclasses.dataclass
class Plan:
    """What is measured, and how much."""

    models: list  # disks.Model
    policies: list  # of Gnomon; the first is compared with TCG
    jobs: list
    pairs: int
    milliseconds: int  # a job


def measure(plan, make_places, guests, native, progress):
    """A Measured. make_places: the places of a model, those of the pair proper first; guests: by the model's name;
    native: a place, or None.
    """
    measured = Measured()
    for pair in range(plan.pairs):
        if native is not None:
            _run(plan, None, native, None, measured, progress, pair)
        for model in plan.models:
            order = make_places(model)
            for place in order if pair % 2 == 0 else order[::-1]:
                _run(plan, model, place, guests[model.name], measured, progress, pair)
    progress.end()
    return measured


def _run(plan, model, place, guest, measured, progress, pair):
    name = model.name if model else "host"
    progress.run(f"pair {pair + 1} of {plan.pairs}, {name}, {place.name}")
    # A machine's memory at its end is of no interest here: any guest will do for the host.
    guest = guest or place_kinds.Guest(None, None, 1)
    parameters = f"quiet io.milliseconds={plan.milliseconds} io.jobs={','.join(plan.jobs)}"
    if model:
        parameters += f" io.device={model.device} io.interrupts={model.interrupts}"
    listener = Listener()
    session = sessions.run(place, guest, parameters, plan.jobs, progress.row, listen=listener)
    measured.failures += [f"{name}, {text}" for text in session.failures]
    measured.warnings += [f"{name}, {text}" for text in session.warnings]
    measured.add(name, place.name, listener.finish(session), plan.jobs)


def pack_guests(models, kernel, programs, memory, folder):
    """Guests by the model's name."""
    guests = {}
    for model in models:
        path = folder / f"disk-{model.name}.cpio"
        image.pack_disk_load(path, programs, disks.module_files(kernel, model))
        guests[model.name] = place_kinds.Guest(kernel, path, memory)
    return guests


def count(value):
    """Requests a second, or "-"."""
    return "-" if value is None else f"{value:.0f}"


def share(value):
    return "-" if value is None else f"{value:.2f}"


class Report:
    """Tables and JSON of one run."""

    def __init__(self, plan, measured, facts, with_qemu, with_native):
        self._plan = plan
        self._measured = measured
        self._facts = facts
        self._qemu = with_qemu
        self._native = with_native

    def write(self, json_path):
        """To stdout, and to the file if it is not None."""
        colour = table.wants_colour(sys.stdout)
        print("\n".join(f"{name}: {text}" for name, text in self._facts.items()))
        for model in self._plan.models:
            if self._qemu:
                print(f"\n{model.name}, {self._plan.policies[0]}, beside TCG (TCG / Gnomon)\n")
                print(self._against_qemu(model.name).text(colour))
            print(f"\n{model.name}, by completion policy: requests a second (p50)\n")
            print(self._by_policy(model.name).text(colour))
        print("\n" + self._verdict())
        for line in dict.fromkeys(self._measured.warnings):
            print(f"warning: {line}", file=sys.stderr)
        for line in dict.fromkeys(self._measured.failures):
            print(f"failed: {line}", file=sys.stderr)
        if json_path is not None:
            data = {
                "facts": self._facts, "results": self._measured.data(), "ratios": self._ratios(),
                "failures": self._measured.failures, "warnings": self._measured.warnings,
            }  # fmt: skip
            json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def _against_qemu(self, model):
        measured, policy = self._measured, self._plan.policies[0]
        made = table.Table("job", "IOPS", "ratio", "aim", "p50", "p99", "interrupts/request", "CPU/request")
        for job in self._plan.jobs:
            ratio = measured.ratio(model, policy, "tcg", job)
            aimed = model in AIMED_MODELS and AIMED.fullmatch(job) is not None

            def both(name, show):
                return " / ".join(show(measured.median(model, place, job, name)) for place in ("tcg", policy))

            made.add(
                job, both("iops", count), table.factor(ratio), f"{AIM:g}x" if aimed else "",
                both("p50", table.duration), both("p99", table.duration), both("interrupts", share),
                both("cpu", table.duration), good=ratio >= AIM if aimed and ratio is not None else None,
            )  # fmt: skip
        return made

    def _by_policy(self, model):
        measured = self._measured
        made = table.Table("job", *(["native"] if self._native else []), *self._plan.policies)
        for job in self._plan.jobs:
            where = ([("host", "native")] if self._native else []) + [(model, name) for name in self._plan.policies]
            cells = [
                f"{count(measured.median(*one, job, 'iops'))} ({table.duration(measured.median(*one, job, 'p50'))})"
                for one in where
            ]
            made.add(job, *cells)
        return made

    def _ratios(self):
        policy = self._plan.policies[0]
        return [
            {"model": model.name, "job": job, "iops_ratio": self._measured.ratio(model.name, policy, "tcg", job)}
            for model in self._plan.models
            for job in self._plan.jobs
        ]

    def _verdict(self):
        aimed = [r for r in self._ratios() if r["model"] in AIMED_MODELS and AIMED.fullmatch(r["job"])]
        aimed = [r for r in aimed if r["iops_ratio"] is not None]
        if not aimed:
            return "nothing with an aim was measured"
        missed = [f"{r['model']} {r['job']} {table.factor(r['iops_ratio'])}" for r in aimed if r["iops_ratio"] < AIM]
        met = f"{len(aimed) - len(missed)} of {len(aimed)} reach {AIM:g} times TCG's requests a second"
        return met + (f"; missed: {', '.join(missed)}" if missed else "")
