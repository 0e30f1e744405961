# SPDX-License-Identifier: Apache-2.0
"""Tests of the benchmark's driver: python3 -B bench/tests/driver_test.py"""

import contextlib
import io
import os
import shlex
import stat
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCH / "driver"))

import disk_io
import disks
import image
import places
import report
import results
import rows
import schedule
import session
import table

PROGRAMS = os.environ.get("GNOMON_BENCH_PROGRAMS")


class Script:
    """A place that is a shell script."""

    def __init__(self, text, name="gnomon", log=None):
        """log: a list that gets the name and the parameters of each run."""
        self.name = name
        self.trace_file = None
        self._text = text
        self._log = log if log is not None else []

    def command(self, guest, parameters):
        self._log.append((self.name, parameters))
        return ["sh", "-c", self._text]


def program(name, *arguments, status=0):
    """One of the guests' programs, run here; its exit status has to be `status`."""
    done = subprocess.run([f"{PROGRAMS}/{name}", *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != status:
        raise AssertionError(f"{name} {arguments}: status {done.returncode}, {done.stderr}")
    return done


GUEST = places.Guest(Path("kernel"), Path("initrd"), 512)


def run(script, wanted=("stat",), **options):
    return session.run(Script(script), GUEST, "", wanted, lambda *_: None, **options)


class Sessions(unittest.TestCase):
    def test_values_and_marks(self):
        outcome = run(
            "echo noise; echo READY; echo BEGIN stat 5; printf 'ROW stat 1.500 ns\\r\\n';"
            "echo END stat 1005; echo DONE; sleep 0.3"
        )
        self.assertEqual(outcome.values, {"stat": 1.5})
        self.assertEqual((outcome.failures, outcome.warnings), ([], []))
        self.assertGreater(outcome.marks["READY"], 0)
        self.assertGreater(outcome.memory.peak, 0)

    def test_a_clock_that_lags_is_told(self):
        outcome = run("echo BEGIN stat 0; sleep 0.5; echo ROW stat 1 ns; echo END stat 200000000")
        self.assertEqual(len(outcome.warnings), 1)
        self.assertRegex(outcome.warnings[0], r"^gnomon: stat took 0\.20 s by the guest's clock and 0\.[5-9]")

    def test_a_clock_that_is_right_is_not(self):
        outcome = run("echo BEGIN stat 0; sleep 0.3; echo ROW stat 1 ns; echo END stat 310000000")
        self.assertEqual(outcome.warnings, [])

    def test_a_row_that_fails(self):
        outcome = run("echo BEGIN stat 0; echo FAIL stat run: exit status 132; echo END stat 1; echo DONE")
        self.assertEqual(outcome.failures, ["gnomon: stat run: exit status 132", "gnomon: no value for stat"])

    def test_a_machine_that_dies(self):
        outcome = run("echo BEGIN stat 0; echo it broke >&2; exit 3")
        self.assertEqual(outcome.failures, ["gnomon: ended with status 3: it broke", "gnomon: no value for stat"])

    def test_a_machine_that_falls_silent_is_ended(self):
        outcome = run("echo READY; sleep 600", silence=0.3)
        self.assertEqual(outcome.failures[0], "gnomon: ended after 0.3 s of silence")

    def test_lines_that_are_none(self):
        outcome = run("echo ROW stat; echo ROW stat x y z; echo END stat 5; echo BEGIN; echo ROW stat 2.0 ns")
        self.assertEqual(outcome.values, {"stat": 2.0})

    def test_numbers_that_are_none(self):
        outcome = run("echo ROW stat 1x ns; echo BEGIN stat 0; echo END stat 1x; echo ROW stat nan ns")
        self.assertEqual(outcome.values, {})


class Disks(unittest.TestCase):
    LINES = (
        "echo BEGIN randread_4_1 0; sleep 0.1; echo ROW randread_4_1 50000.0 ns;"
        "echo IO randread_4_1 requests=20 p50=10 p99=20 max=30 interrupts=5; echo END randread_4_1 100000000;"
        "echo BEGIN read_1024_1 0; echo FAIL read_1024_1 a request: Input/output error; echo END read_1024_1 1; echo DONE;"
        "sleep 0.1"
    )

    def measured(self, text, name):
        model, jobs = disks.MODELS[0], ["randread_4_1", "read_1024_1"]
        plan = disk_io.Plan([model], [name], jobs, pairs=1, milliseconds=7)
        log = []
        progress = schedule.Progress(io.StringIO())
        found = disk_io.measure(plan, lambda _: [Script(text, name, log)], {"nvme": GUEST}, None, progress)
        return found, log

    def test_values(self):
        found, log = self.measured(self.LINES, "adaptive")
        parameters = "quiet io.milliseconds=7 io.jobs=randread_4_1,read_1024_1 io.device=/dev/nvme0n1 io.interrupts=nvme0q"
        self.assertEqual(log, [("adaptive", parameters)])
        values = {name: found.median("nvme", "adaptive", "randread_4_1", name) for name in disk_io.VALUES}
        self.assertGreater(values.pop("cpu"), 0)
        self.assertEqual(values, {"iops": 20000, "p50": 10, "p99": 20, "interrupts": 0.25})
        self.assertIsNone(found.median("nvme", "adaptive", "read_1024_1", "iops"))
        self.assertEqual(found.failures[0], "nvme, adaptive: read_1024_1 a request: Input/output error")

    def test_ratios(self):
        found = disk_io.Measured()
        for tcg, gnomon in ((30.0, 10.0), (50.0, 10.0), (None, 10.0)):
            for place, time in (("tcg", tcg), ("adaptive", gnomon)):
                outcome = disk_io.Outcome(1, time, 1, 1, 1, 1) if time else None
                found.add("nvme", place, {"j": outcome} if outcome else {}, ["j"])
        self.assertEqual(found.ratio("nvme", "adaptive", "tcg", "j"), 4)  # of 3 and 5
        self.assertIsNone(found.ratio("nvme", "immediate", "tcg", "j"))

    def test_the_image_goes(self):
        with tempfile.TemporaryDirectory() as folder:
            with disk_io.disk_image(Path(folder), 2) as path:
                self.assertEqual(path.stat().st_size, 2 << 20)
            self.assertEqual(list(Path(folder).iterdir()), [])


class Numbers(unittest.TestCase):
    def setUp(self):
        row = rows.Row("stat", "", "kernel", 2)
        self.results = results.Results([row], ["gnomon", "tcg"])
        for gnomon, tcg in ((10, 30), (20, 40), (None, 50), (10, 100)):
            self.results.add("stat", "gnomon", gnomon)
            self.results.add("stat", "tcg", tcg)

    def test_medians_are_of_the_pairs_ratios(self):
        self.assertEqual(self.results.ratios("stat", "tcg", "gnomon"), [3, 2, 10])
        self.assertEqual(self.results.ratio("stat", "tcg", "gnomon"), 3)
        self.assertEqual(self.results.median("stat", "gnomon"), 10)
        self.assertEqual(self.results.added("stat", "tcg", "gnomon"), 20)

    def test_what_was_not_measured(self):
        self.assertIsNone(self.results.ratio("stat", "native", "gnomon"))
        self.assertIsNone(self.results.median("boot", "gnomon"))
        self.assertIsNone(results.spread([]))

    def test_table(self):
        made = table.Table("row", "tcg")
        made.add("stat", table.duration(1234.5), good=False)
        self.assertEqual(made.text(False), "row       tcg\n----  -------\nstat  1.23 µs")
        self.assertIn("\x1b[31m", made.text(True))
        self.assertEqual(made.markdown(), "| row | tcg |\n|---|---:|\n| stat | 1.23 µs |")

    def test_units(self):
        values = (0.5, 12.34, 999.4, 999.96, 45e6, 2.5e9)
        texts = ["0.50 ns", "12.3 ns", "999 ns", "1.00 µs", "45.0 ms", "2.50 s"]
        self.assertEqual([table.duration(value) for value in values], texts)
        self.assertEqual((table.duration(None), table.factor(None), table.factor(15)), ("-", "-", "15.0x"))


class Schedules(unittest.TestCase):
    def test_pairs_take_turns_and_groups_share_a_boot(self):
        order = []
        chosen = [row for row in rows.ROWS if row.name in ("stat", "pipe", "fft")]
        script = "for row in stat pipe fft; do echo ROW $row 5 ns; done"
        both = [Script(script, "gnomon", order), Script(script, "tcg", order)]
        plan = schedule.Plan(chosen, pairs=2, milliseconds=7, repeat=3, boots=1, one_boot=False)
        found = results.Results(chosen, ["gnomon", "tcg"])
        with contextlib.redirect_stderr(io.StringIO()) as progress:
            schedule.measure(plan, both, {"rows": GUEST}, found, schedule.Progress(progress))
        self.assertEqual([name for name, _ in order], ["gnomon", "tcg"] * 2 + ["tcg", "gnomon"] * 2)
        self.assertEqual(order[0][1], "quiet bench.rows=stat,pipe bench.milliseconds=7 bench.repeat=3")
        self.assertEqual(order[2][1], "quiet bench.rows=fft bench.milliseconds=7 bench.repeat=3")
        self.assertEqual(found.values("fft", "tcg"), [5, 5])
        self.assertIn("pair 2 of 2, compute, gnomon", progress.getvalue())

    def test_the_least_of_the_boots_counts(self):
        boot = [row for row in rows.ROWS if row.name == "boot"]
        plan = schedule.Plan(boot, pairs=1, milliseconds=1, repeat=1, boots=2, one_boot=True)
        found = results.Results(boot, ["gnomon", "native"])
        with tempfile.TemporaryDirectory() as folder:
            slow_once = f"test -e {shlex.quote(folder)}/2 || {{ touch {shlex.quote(folder)}/2; sleep 1; }}; echo BOOTED"
            with contextlib.redirect_stderr(io.StringIO()) as progress:
                both = [Script(slow_once), Script("false", "native")]
                schedule.measure(plan, both, {"boot": GUEST}, found, schedule.Progress(progress))
        self.assertLess(found.values("boot", "gnomon")[0], 1e9)
        self.assertEqual((found.values("boot", "native"), found.failures), ([], []))


class Images(unittest.TestCase):
    def test_packs_what_it_unpacks(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "rows").mkdir()
            (folder / "rows" / "x.sh").write_text("exit 0\n")
            for program in ("runner", "micro", "nothing", "text"):
                (folder / program).write_bytes(program.encode())
            with tarfile.open(folder / "root.tar", "w") as archive:
                def add(path, **fields):
                    data = fields.pop("data", b"")
                    info = tarfile.TarInfo(path)
                    info.size = len(data)
                    for field, value in fields.items():
                        setattr(info, field, value)
                    archive.addfile(info, io.BytesIO(data))
                for directory in (".", "./bin", "./usr", "./usr/share", "./dev"):
                    add(directory, type=tarfile.DIRTYPE, mode=0o755)
                add("./bin/tool", data=b"abcde", mode=0o755)
                add("./bin/same", type=tarfile.LNKTYPE, linkname="./bin/tool", mode=0o755)
                add("./bin/link", type=tarfile.SYMTYPE, linkname="tool")
                add("./usr/share/manual", data=b"long")
                add("./dev/null", type=tarfile.CHRTYPE)
            image.pack_rows(folder / "rows.cpio", folder / "root.tar", folder, folder / "rows")
            out = folder / "out"
            out.mkdir()
            image.unpack(folder / "rows.cpio", out)
            self.assertEqual((out / "bin/tool").read_bytes(), b"abcde")
            self.assertEqual((out / "bin/same").read_bytes(), b"abcde")
            self.assertEqual(stat.S_IMODE((out / "bin/tool").stat().st_mode), 0o755)
            self.assertEqual(os.readlink(out / "bin/link"), "tool")
            self.assertEqual((out / "init").read_bytes(), b"runner")
            self.assertTrue((out / "bench/rows/x.sh").exists())
            self.assertFalse((out / "usr/share").exists())
            self.assertFalse((out / "dev/null").exists())
            self.assertEqual([path.name for path in folder.glob("rows.cpio*")], ["rows.cpio"])


class Pages(unittest.TestCase):
    def test_the_table_goes_between_the_marks(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.md"
            page.write_text(f"before\n{report.BEGIN_MARK}\nold\n{report.END_MARK}\nafter\n", encoding="utf-8")
            made = report.Report(results.Results([rows.ROWS[0]], ["gnomon"]), {"date": "today"}, 1.0, 512, [])
            with contextlib.redirect_stdout(io.StringIO()):
                made.write(None, page)
            text = page.read_text(encoding="utf-8")
            self.assertTrue(text.startswith(f"before\n{report.BEGIN_MARK}\n- date: today\n\n| row | gnomon |"))
            self.assertTrue(text.endswith(f"{report.END_MARK}\nafter\n"))
            self.assertNotIn("old", text)


class Rows(unittest.TestCase):
    def test_names_are_unique(self):
        names = [row.name for row in rows.ROWS]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(set(rows.NOT_QUICK), set(names))

    def test_all_rows_fit_into_a_kernel_command_line(self):
        names = ",".join(row.name for row in rows.ROWS)
        self.assertLess(len(names), 1500)

    @unittest.skipUnless(PROGRAMS, "GNOMON_BENCH_PROGRAMS is not set")
    def test_each_row_has_a_script_or_a_program(self):
        listed = program("micro", "--list").stdout.split()
        scripts = [path.stem for path in (BENCH / "guest" / "rows").glob("*.sh")]
        self.assertEqual(sorted(listed + scripts), sorted(row.name for row in rows.ROWS if row.group != "startup"))


@unittest.skipUnless(PROGRAMS, "GNOMON_BENCH_PROGRAMS is not set")
class Programs(unittest.TestCase):
    def test_each_micro_row_runs(self):
        for name in program("micro", "--list").stdout.split():
            with self.subTest(name):
                self.assertRegex(program("micro", name, "3").stdout, r"^VALUE -?\d+\.\d{3} ns\n$")

    def test_micro_refuses_what_it_cannot_do(self):
        for arguments in ([], ["stat"], ["stat", "0"], ["stat", "1x"], ["nothing", "1"]):
            with self.subTest(arguments):
                program("micro", *arguments, status=2)

    def test_text_is_always_the_same(self):
        first, second = (program("text", "16").stdout for _ in range(2))
        self.assertEqual(len(first), 16384)
        self.assertEqual(first, second)

    def test_the_runner_reports_a_row_that_is_none(self):
        expected = r"READY\nBEGIN no_row \d+\nFAIL no_row run: exit status \d+\nEND no_row \d+\nDONE\n"
        self.assertRegex(program("runner", "bench.rows=no_row").stdout, expected)

    def test_the_runner_refuses_wrong_parameters(self):
        rows_x = "bench.rows=x"
        for arguments in ([], ["bench.rows="], [rows_x, "bench.repeat=0"], [rows_x, "bench.milliseconds=1e9"]):
            with self.subTest(arguments):
                self.assertTrue(program("runner", *arguments, status=2).stdout.startswith("FAIL - "))

    def test_nothing_ends_well(self):
        self.assertEqual(program("nothing").stdout, "")


    def test_disk_load(self):
        # A file system of its own folder, which is the build's and no tmpfs.
        with tempfile.NamedTemporaryFile(dir=PROGRAMS) as file:
            file.truncate(1 << 20)
            if not disks.takes_direct(file.name):
                self.skipTest("no O_DIRECT here")
            where = (f"io.device={file.name}", "io.milliseconds=20")
            lines = program("disk_load", *where, "io.jobs=randwrite_4_4,read_64_1").stdout.splitlines()
            self.assertEqual([line.split()[0] for line in lines], ["READY", *["BEGIN", "ROW", "IO", "END"] * 2, "DONE"])
            for line in lines[3], lines[7]:
                requests, p50, p99, longest = map(int, disk_io.DETAILS.fullmatch(line).groups()[1:5])
                self.assertTrue(requests >= 1 and 0 < p50 <= p99 <= longest, line)
            for jobs in ("", "randread_4", "randread_0_1", "randread_4_257", "trim_4_1", "read_1024_1,x"):
                self.assertIn("FAIL - ", program("disk_load", *where, f"io.jobs={jobs}", status=2).stdout)


class CommandLine(unittest.TestCase):
    def driver(self, *arguments):
        command = [sys.executable, "-B", str(BENCH / "driver"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_help(self):
        for script in ("run.sh", "compare.sh", "io.sh"):
            done = subprocess.run([str(BENCH / script), "--help"], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(f"usage: bench/{script}", done.stdout)

    def test_what_is_wrong_is_said(self):
        for arguments, text in (
            (["run", "--rows", "no_such_row"], "no such row; there are boot, "),
            (["run", "--rows", "("], "--rows (: "),
            (["run", "--gnomon", "/no/such/gnomon"], "/no/such/gnomon: no such program"),
            (["run", "--gnomon", "/bin/true", "--qemu", "/no/such/qemu"], "/no/such/qemu: no such program"),
            (["run", "--gnomon", "/bin/true", "--no-qemu", "--kernel", "/no/kernel"], "/no/kernel: no such kernel"),
            (["run", "--json", "/no/such/folder/x"], "its folder is not there"),
            (["run", "--markdown", "/no/such/page"], "No such file"),
            (["run", "--markdown", __file__], "it has no lines"),
            (["run", "--nice", "high"], "invalid int value"),
            (["run", "--repeat", "0"], "0 is not a number from 1"),
            (["compare", "/no/such/old", "/bin/true"], "/no/such/old: no such program"),
            (["compare", "/bin/true", "/bin/true", "--rows", "stat", "pipe"], "rows are named either"),
            (["io", "--models", "scsi"], "--models scsi: none of nvme, virtio, ide"),
            (["io", "--jobs", "("], "--jobs (: "),
            (["io", "--gnomon", "/bin/true", "--no-qemu", "--folder", "/no/such"], "--folder /no/such: no such folder"),
            (["measure"], "the first argument is run, compare or io"),
        ):
            with self.subTest(arguments):
                done = self.driver(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertIn(text, done.stderr)
                self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
