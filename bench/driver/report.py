# SPDX-License-Identifier: Apache-2.0
"""What a whole run prints and writes."""

import json
import sys

import table

BEGIN_MARK, END_MARK = "<!-- bench: begin -->", "<!-- bench: end -->"


class Report:
    """The table of one run and what stands around it."""

    def __init__(self, results, facts, start_milliseconds, memory, notes):
        self._results = results
        self._facts = facts
        self._start = start_milliseconds
        self._memory = memory
        self._notes = notes

    def write(self, json_path, markdown_path):
        """To stdout, and to the files that are not None."""
        print(self._text(table.wants_colour(sys.stdout)))
        for line in dict.fromkeys(self._results.warnings):
            print(f"warning: {line}", file=sys.stderr)
        for line in dict.fromkeys(self._results.failures):
            print(f"failed: {line}", file=sys.stderr)
        if json_path is not None:
            json_path.write_text(json.dumps(self._data(), indent=1) + "\n", encoding="utf-8")
        if markdown_path is not None:
            _replace_between_marks(markdown_path, self._markdown())

    def _text(self, colour):
        lines = [f"{name}: {text}" for name, text in self._facts.items()]
        lines += ["", self._table().text(colour), "", *self._summary()]
        return "\n".join(lines)

    def _markdown(self):
        facts = "\n".join(f"- {name}: {text}" for name, text in self._facts.items())
        summary = "\n".join(f"- {line}" for line in self._summary())
        return f"{facts}\n\n{self._table().markdown()}\n\n{summary}\n"

    def _table(self):
        results = self._results
        has = lambda place: place in results.places
        head = ["row"] + [name for name in ("native", "tcg", "gnomon") if has(name)]
        if has("tcg"):
            head += ["faster than TCG", "aim"]
        if has("native"):
            head += ["of native"]
        head += [f"with {name}" for name in ("count", "text") if has(name)]
        made = table.Table(*head)
        for row in results.rows:
            cells = [row.name] + [
                table.duration(results.median(row.name, place)) for place in ("native", "tcg", "gnomon") if has(place)
            ]
            good = None
            if has("tcg"):
                ratio = results.ratio(row.name, "tcg", "gnomon")
                cells += [table.factor(ratio), "" if row.target is None else table.factor(row.target)]
                good = None if row.target is None or ratio is None else ratio >= row.target
            if has("native"):
                cells.append(table.factor(results.ratio(row.name, "gnomon", "native")))
            for place in ("count", "text"):
                if has(place):
                    cells.append(table.factor(results.ratio(row.name, place, "gnomon")))
            made.add(*cells, good=good)
        return made

    def _summary(self):
        results = self._results
        lines = []
        added = results.added("null_call", "count", "gnomon") if "count" in results.places else None
        if added is not None:
            lines.append(f"a counted call costs {table.duration(added)} more than an untraced one (aim: 100 ns)")
        if results.memory:
            peak = max(memory.peak for memory in results.memory)
            text = f"resident memory: {peak:.0f} MiB at the most with a guest memory of {self._memory} MiB"
            outside = [memory.outside_guest for memory in results.memory if memory.outside_guest is not None]
            if outside:
                text += f"; {max(outside):.0f} MiB of it outside the guest's (aim: 256)"
            lines.append(text)
        if self._start is not None:
            lines.append(f"from the start of gnomon to the guest's first instruction: {self._start:.1f} ms (aim: 100)")
        return lines + self._notes

    def _data(self):
        results = self._results
        rows = []
        for row in results.rows:
            rows.append(
                {
                    "name": row.name,
                    "what": row.what,
                    "group": row.group,
                    "unit": "ns",
                    "target": row.target,
                    "values": {place: results.values(row.name, place) for place in results.places},
                    "faster_than_tcg": results.ratio(row.name, "tcg", "gnomon"),
                    "of_native": results.ratio(row.name, "gnomon", "native"),
                    "with_count": results.ratio(row.name, "count", "gnomon"),
                    "with_text": results.ratio(row.name, "text", "gnomon"),
                }
            )
        return {
            "facts": self._facts,
            "memory_mib": self._memory,
            "rows": rows,
            "counted_call_ns": results.added("null_call", "count", "gnomon"),
            "resident_mib": [{"peak": m.peak, "outside_guest": m.outside_guest} for m in results.memory],
            "first_instruction_ms": self._start,
            "notes": self._notes,
            "warnings": results.warnings,
            "failures": results.failures,
        }


def has_marks(path):
    """Whether the page at `path` has a place for the table."""
    _, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN_MARK)
    return bool(begin) and END_MARK in rest


def _replace_between_marks(path, text):
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN_MARK)
    _, _, tail = rest.partition(END_MARK)
    path.write_text(f"{head}{BEGIN_MARK}\n{text}{END_MARK}{tail}", encoding="utf-8")
