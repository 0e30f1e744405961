# SPDX-License-Identifier: Apache-2.0
"""The benchmark's driver. bench/run.sh and bench/compare.sh set up what it needs and start it."""

import argparse
import re
import shutil
import sys
from pathlib import Path

import compare
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

    results = Results(plan.rows, [place.name for place in places])
    schedule.measure(plan, places, guests, results, schedule.Progress())
    start = startup.first_instruction(gnomon, options.programs / "first_instruction.elf", options.memory)
    outcome = report.Report(results, host.describe(PROJECT, gnomon, qemu, Path(options.kernel)), start, options.memory, notes)
    outcome.write(options.json, options.markdown)
    return 1 if results.failures else 0


def common_options(parser):
    parser.add_argument("--rows", metavar="REGEX", help="only the rows, or groups of rows, whose whole name matches")
    parser.add_argument("--repeat", metavar="N", type=positive, help="pairs of runs (default 5; with --quick 1)")
    parser.add_argument("--memory", metavar="MIB", type=positive, default=512, help="the guests' memory (default 512)")
    parser.add_argument("--kernel", metavar="FILE", default=PROJECT / "build/guest/cloud/vmlinuz", help="a bzImage (default: the fetched cloud kernel)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every value there")
    # Where the guests' programs are built.
    parser.add_argument("--programs", type=Path, default=PROJECT / "build/release/bench", help=argparse.SUPPRESS)


def run_parser():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=RUN_HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_options(parser)
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions: under three minutes")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table between the marks of this page (docs/bench.md)")
    parser.add_argument("--gnomon", metavar="FILE", default=str(PROJECT / "build/release/gnomon"), help="another build's program")
    parser.add_argument("--qemu", metavar="FILE", default="qemu-system-x86_64", help="another QEMU")
    parser.add_argument("--no-native", action="store_true", help="without the chroot on the host")
    parser.add_argument("--no-qemu", action="store_true", help="without QEMU")
    parser.add_argument("--no-trace", action="store_true", help="without the traced runs")
    parser.set_defaults(function=run)
    return parser


def compare_parser():
    parser = argparse.ArgumentParser(prog="bench/compare.sh", description=compare.HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="a gnomon program")
    parser.add_argument("new", metavar="NEW", help="another one")
    common_options(parser)
    parser.add_argument("--trace", choices=("count", "text"), help="compare traced runs")
    parser.add_argument("names", metavar="ROW", nargs="*", help="rows or groups (default: all)")
    parser.set_defaults(function=run_compare)
    return parser


def positive(text):
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 1000000")
    return int(text)


RUN_HELP = """Boots the same kernel and the same Debian in Gnomon and in QEMU's TCG, runs the same programs in both, natively, and
under `gnomon trace`, and prints a table. docs/bench.md explains the rows. bench/run.sh installs (as root) and builds what is
missing first."""


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


def main():
    parsers = {"run": run_parser, "compare": compare_parser}
    action = sys.argv[1] if len(sys.argv) > 1 else ""
    if action not in parsers:
        print("bench: the first argument is run or compare; see bench/run.sh and bench/compare.sh", file=sys.stderr)
        return 2
    options = parsers[action]().parse_intermixed_args(sys.argv[2:])
    try:
        return options.function(options)
    except Refusal as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
