# SPDX-License-Identifier: Apache-2.0
"""Runs rows in several places, in pairs: what is compared lies close together in time, and takes turns."""

import sys

import rows as row_table
import session as sessions


class Progress:
    """One line on stderr, rewritten on a terminal; elsewhere a line for each run."""

    def __init__(self, stream=sys.stderr):
        self._stream = stream
        self._terminal = stream.isatty()
        self._prefix = ""

    def run(self, text):
        self._prefix = text
        if self._terminal:
            self._show(text)
        else:
            print(text, file=self._stream, flush=True)

    def row(self, _place, row):
        if self._terminal:
            self._show(f"{self._prefix}: {row}")

    def end(self):
        if self._terminal:
            self._show("")

    def _show(self, text):
        self._stream.write("\r\x1b[K" + text[:150])
        self._stream.flush()


class Plan:
    """How much is measured."""

    def __init__(self, rows, pairs, milliseconds, repeat, boots, one_boot):
        self.rows = rows
        self.pairs = pairs
        self.milliseconds = milliseconds  # a micro row's in one boot
        self.repeat = repeat  # runs of a script in one boot
        self.boots = boots  # boots for a value of a boot's row; the least counts
        self.one_boot = one_boot  # all rows of a pair in one boot, else one for each group

    def groups(self):
        groups = row_table.groups(self.rows)
        if not self.one_boot:
            return groups
        boots = [(name, rows) for name, rows in groups if name == "startup"]
        others = [row for name, rows in groups if name != "startup" for row in rows]
        return boots + ([("rows", others)] if others else [])


def measure(plan, places, guests, results, progress):
    """Fills `results`. places: in the order of the first pair; guests: "boot" and "rows"."""
    for pair in range(plan.pairs):
        # The first two are the pair proper.
        order = places if pair % 2 == 0 else places[1::-1] + places[2:]
        for name, rows in plan.groups():
            if name == "startup":
                _boots(plan, order, rows, guests["boot"], results, progress, pair)
            else:
                _rows(plan, order, name, rows, guests["rows"], results, progress, pair)
    progress.end()


def _rows(plan, order, group, rows, guest, results, progress, pair):
    names = [row.name for row in rows]
    parameters = f"quiet bench.rows={','.join(names)} bench.milliseconds={plan.milliseconds} bench.repeat={plan.repeat}"
    for place in order:
        progress.run(f"pair {pair + 1} of {plan.pairs}, {group}, {place.name}")
        session = sessions.run(place, guest, parameters, names, progress.row)
        _finish(place, session, results)
        for name in names:
            results.add(name, place.name, session.values.get(name))
        if place.name == "gnomon" and session.memory is not None:
            results.memory.append(session.memory)


def _boots(plan, order, rows, guest, results, progress, pair):
    order = [place for place in order if place.name != "native"]
    for row in rows:
        least = {place.name: None for place in order}
        for _ in range(plan.boots):
            for place in order:
                progress.run(f"pair {pair + 1} of {plan.pairs}, {row.name}, {place.name}")
                session = sessions.run(place, guest, "quiet" if row.name == "boot_quiet" else "", (), progress.row)
                _finish(place, session, results)
                seconds = session.marks.get("BOOTED")
                if seconds is None:
                    results.failures.append(f"{place.name}: init did not start")
                elif least[place.name] is None or seconds * 1e9 < least[place.name]:
                    least[place.name] = seconds * 1e9
        for place in order:
            results.add(row.name, place.name, least[place.name])


def _finish(place, session, results):
    results.failures += session.failures
    results.warnings += session.warnings
    if place.trace_file is not None:
        place.trace_file.unlink(missing_ok=True)
