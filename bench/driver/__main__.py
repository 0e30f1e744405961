# SPDX-License-Identifier: Apache-2.0
"""The benchmark's driver. bench/run.sh, compare.sh and io.sh set up what it needs and start it."""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import compare
import disk_io
import disks
import host
import image
import places as place_kinds
import report
import rows as row_table
import schedule
import startup
from results import Results

PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / "build" / "bench"
FETCHED_KERNEL = PROJECT / "build" / "guest" / "cloud" / "vmlinuz"


class Refusal(Exception):
    """Something is not as it has to be; the text says what to do."""


def executable(text):
    """A program's path: a file, or a name to look up in PATH."""
    found = shutil.which(text)
    if found is None:
        raise Refusal(f"{text}: no such program")
    return Path(found).resolve()


def selected_rows(pattern, quick):
    try:
        expression = re.compile(pattern or "")
    except re.error as error:
        raise Refusal(f"--rows {pattern}: {error}") from None
    if pattern:
        rows = [row for row in row_table.ROWS if expression.fullmatch(row.name) or expression.fullmatch(row.group)]
    else:
        rows = [row for row in row_table.ROWS if not quick or row.name not in row_table.NOT_QUICK]
    if not rows:
        raise Refusal(f"--rows {pattern}: no such row; there are {', '.join(row.name for row in row_table.ROWS)}")
    return rows


def prepare_guests(options, rows):
    """Packs what the guests of `rows` boot: "boot" and "rows", as needed."""
    kernel = Path(options.kernel)
    if not kernel.is_file():
        raise Refusal(f"{kernel}: no such kernel; scripts/fetch.sh fetches Debian's")
    WORK.mkdir(parents=True, exist_ok=True)
    programs, guests = options.programs, {}
    for name in {"boot" if row.group == "startup" else "rows" for row in rows}:
        path = WORK / f"{name}.cpio"
        if name == "boot":
            image.pack_boot(path, programs)
        elif (WORK / "root.tar").is_file():
            image.pack_rows(path, WORK / "root.tar", programs, PROJECT / "bench" / "guest" / "rows")
        else:
            raise Refusal("the guests' Debian is missing; bench/image.sh makes it")
        guests[name] = place_kinds.Guest(kernel, path, options.memory)
    return guests


def check_outputs(options):
    """Finds before the long work what would make it vain."""
    if options.json is not None and not os.access(options.json.absolute().parent, os.W_OK):
        raise Refusal(f"--json {options.json}: its folder is not there or not writable")
    page = getattr(options, "markdown", None)
    if page is None:
        return
    try:
        if report.has_marks(page):
            return
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"--markdown {page}: {error}") from None
    raise Refusal(f"--markdown {page}: it has no lines {report.BEGIN_MARK} and {report.END_MARK} for the table")


def change_priority(increment):
    """Of this process and of all that it starts: every place gets the same."""
    try:
        os.nice(increment)
    except PermissionError:
        raise Refusal(f"--nice {increment}: only root may raise the priority") from None


def make_plan(options):
    quick = options.quick
    return schedule.Plan(
        rows=selected_rows(options.rows, quick),
        pairs=options.repeat or (1 if quick else 5),
        milliseconds=200 if quick else 300,
        repeat=2 if quick else 3,
        boots=1 if quick else 2,
        one_boot=quick,
    )


def run(options):
    plan = make_plan(options)
    gnomon = executable(options.gnomon)
    qemu = None if options.no_qemu else executable(options.qemu)
    guests = prepare_guests(options, plan.rows)
    places = [place_kinds.Gnomon("gnomon", gnomon)]
    if qemu:
        places.append(place_kinds.Qemu(qemu))
    notes = []
    if not options.no_native:
        mount_point = WORK / "native"
        mount_point.mkdir(exist_ok=True)
        native = place_kinds.Native(mount_point)
        reason = native.reason_against()
        if reason is None:
            places.append(native)
        else:
            notes.append(f"native is left out: {reason}")
            print(f"bench/run.sh: {notes[-1]}", file=sys.stderr)
    if not options.no_trace:
        for name, choice in (("count", ["-c"]), ("text", ["-f"])):
            places.append(place_kinds.Gnomon(name, gnomon, choice, WORK / f"trace-{name}.txt"))

    load = os.getloadavg()[0]
    facts = host.describe(PROJECT, gnomon, qemu, Path(options.kernel))
    results = Results(plan.rows, [place.name for place in places])
    schedule.measure(plan, places, guests, results, schedule.Progress())
    start = startup.first_instruction(gnomon, options.programs / "first_instruction.elf", options.memory)
    facts["runs"] = f"{plan.pairs} pairs{', --quick' if options.quick else ''}; the host's load before: {load:.1f}"
    if options.nice:
        facts["runs"] += f"; --nice {options.nice}"
    outcome = report.Report(results, facts, start, options.memory, notes)
    outcome.write(options.json, options.markdown)
    return 1 if results.failures else 0


def new_parser(program, description):
    return argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_common_options(parser):
    option = parser.add_argument
    option("--rows", metavar="REGEX", help="only the rows, or groups of rows, whose whole name matches")
    add_guest_options(parser)


def add_guest_options(parser):
    option = parser.add_argument
    option("--repeat", metavar="N", type=positive, help="pairs of runs (default 5; with --quick 1)")
    option("--memory", metavar="MIB", type=positive, default=512, help="the guests' memory (default 512)")
    option("--kernel", metavar="FILE", default=FETCHED_KERNEL, help="a bzImage (default: the fetched cloud kernel)")
    option("--nice", metavar="N", type=int, default=0, help="as nice(1); as root, -15 helps on a busy host")
    option("--json", metavar="FILE", type=Path, help="write every value there")
    # Where the guests' programs are built.
    option("--programs", type=Path, default=PROJECT / "build/release/bench", help=argparse.SUPPRESS)


def add_program_options(parser):
    option = parser.add_argument
    option("--gnomon", metavar="FILE", default=str(PROJECT / "build/release/gnomon"), help="another build's program")
    option("--qemu", metavar="FILE", default="qemu-system-x86_64", help="another QEMU")


def run_parser():
    parser = new_parser("bench/run.sh", RUN_HELP)
    add_common_options(parser)
    option = parser.add_argument
    option("--quick", action="store_true", help="fewer rows and repetitions: under three minutes")
    option("--markdown", metavar="FILE", type=Path, help="put the table between the marks of this page (docs/bench.md)")
    add_program_options(parser)
    option("--no-native", action="store_true", help="without the chroot on the host")
    option("--no-qemu", action="store_true", help="without QEMU")
    option("--no-trace", action="store_true", help="without the traced runs")
    parser.set_defaults(function=run)
    return parser


def compare_parser():
    parser = new_parser("bench/compare.sh", compare.HELP)
    option = parser.add_argument
    option("old", metavar="OLD", help="a gnomon program")
    option("new", metavar="NEW", help="another one")
    add_common_options(parser)
    option("--trace", choices=("count", "text"), help="compare traced runs")
    option("names", metavar="ROW", nargs="*", help="rows or groups (default: all)")
    parser.set_defaults(function=run_compare)
    return parser


def positive(text):
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 1000000")
    return int(text)


RUN_HELP = """Boots the same kernel and the same Debian in Gnomon and in QEMU's TCG, runs the same programs in both,
natively, and under `gnomon trace`, and prints a table. docs/bench.md explains the rows. bench/run.sh installs (as
root) and builds what is missing first."""


def run_compare(options):
    if options.names:
        if options.rows:
            raise Refusal("rows are named either by --rows or behind the programs")
        options.rows = "|".join(f"(?:{name})" for name in options.names)
    rows = selected_rows(options.rows, False)
    plan = schedule.Plan(rows, options.repeat or 5, milliseconds=300, repeat=3, boots=1, one_boot=False)
    programs = [executable(options.old), executable(options.new)]
    guests = prepare_guests(options, rows)
    return compare.run(plan, programs, guests, options.trace, WORK, options.json)


def io_parser():
    parser = new_parser("bench/io.sh", disk_io.HELP)
    option = parser.add_argument
    option("--quick", action="store_true", help="shorter jobs, one pair: under three minutes")
    option("--models", metavar="REGEX", default="", help="only these of nvme, virtio, ide")
    option("--jobs", metavar="REGEX", default="", help="only these of " + ", ".join(disk_io.JOBS))
    option("--policies", metavar="REGEX", default="", help="only these of " + ", ".join(disk_io.POLICIES))
    option("--size", metavar="MIB", type=positive, default=256, help="the image's size (default 256)")
    option("--folder", metavar="DIR", type=Path, default=WORK, help="where the image is made (default build/bench)")
    add_guest_options(parser)
    add_program_options(parser)
    option("--no-native", action="store_true", help="without the load on the host itself")
    option("--no-qemu", action="store_true", help="without QEMU")
    parser.set_defaults(function=run_io)
    return parser


def chosen(name, pattern, all_names):
    """Those of `all_names` that the option `name`'s `pattern` matches whole; all if it is empty."""
    try:
        found = [one for one in all_names if not pattern or re.fullmatch(pattern, one)]
    except re.error as error:
        raise Refusal(f"{name} {pattern}: {error}") from None
    if not found:
        raise Refusal(f"{name} {pattern}: none of {', '.join(all_names)}")
    return found


def run_io(options):
    names = chosen("--models", options.models, [model.name for model in disks.MODELS])
    plan = disk_io.Plan(
        models=[model for model in disks.MODELS if model.name in names],
        policies=chosen("--policies", options.policies, disk_io.POLICIES),
        jobs=chosen("--jobs", options.jobs, disk_io.JOBS),
        pairs=options.repeat or (1 if options.quick else 5),
        milliseconds=250 if options.quick else 1000,
    )
    gnomon = executable(options.gnomon)
    qemu = None if options.no_qemu else executable(options.qemu)
    kernel = Path(options.kernel)
    if not kernel.is_file():
        raise Refusal(f"{kernel}: no such kernel; scripts/fetch.sh fetches Debian's")
    if not options.folder.is_dir() and options.folder != WORK:
        raise Refusal(f"--folder {options.folder}: no such folder")
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        guests = disk_io.pack_guests(plan.models, kernel, options.programs, options.memory, WORK)
    except FileNotFoundError as error:
        raise Refusal(f"{error}: not there; the kernel's modules are needed beside it") from None
    load = os.getloadavg()[0]
    facts = host.describe(PROJECT, gnomon, qemu, kernel)
    with disk_io.disk_image(options.folder, options.size) as disk:
        facts["disk"] = f"{options.size} MiB in {options.folder}"
        facts["disk"] += ", O_DIRECT" if disks.takes_direct(disk) else ", through the host's page cache"

        def places(model):
            ours = [disks.Gnomon(gnomon, model, disk, policy) for policy in plan.policies]
            return ([disks.Qemu(qemu, model, disk)] if qemu else []) + ours

        native = None if options.no_native else disks.Native(options.programs, disk)
        if native is not None and not disks.takes_direct(disk):
            native = None  # the load takes files past the page cache only
        measured = disk_io.measure(plan, places, guests, native, schedule.Progress())
    facts["runs"] = f"{plan.pairs} pairs{', --quick' if options.quick else ''}; the host's load before: {load:.1f}"
    if options.nice:
        facts["runs"] += f"; --nice {options.nice}"
    disk_io.Report(plan, measured, facts, qemu is not None, native is not None).write(options.json)
    return 1 if measured.failures else 0


def main():
    parsers = {"run": run_parser, "compare": compare_parser, "io": io_parser}
    action = sys.argv[1] if len(sys.argv) > 1 else ""
    if action not in parsers:
        print("bench: the first argument is run, compare or io; see bench/run.sh, compare.sh and io.sh", file=sys.stderr)
        return 2
    options = parsers[action]().parse_intermixed_args(sys.argv[2:])
    try:
        check_outputs(options)
        change_priority(options.nice)
        return options.function(options)
    except Refusal as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
