# SPDX-License-Identifier: Apache-2.0
"""Two builds of Gnomon, pair by pair."""

import json
import sys

import places as place_kinds
import schedule
import table
from results import Results, spread

HELP = """Runs rows in two builds of Gnomon, taking turns, and prints for each row how many times faster the new one
is: the median of the pairs' ratios, and the least and the greatest of them."""


def run(plan, programs, guests, trace, work, json_path):
    """Prints the comparison; the exit status."""
    options = {None: None, "count": ["-c"], "text": ["-f"]}[trace]
    names = ("old", "new")
    places = [
        place_kinds.Gnomon(name, program, options, work / f"trace-{name}.txt")
        for name, program in zip(names, programs)
    ]
    results = Results(plan.rows, names)
    schedule.measure(plan, places, guests, results, schedule.Progress())

    made = table.Table("row", "old", "new", "faster", "least", "greatest")
    for row in plan.rows:
        ratios = results.ratios(row.name, "old", "new")
        low, high = spread(ratios) or (None, None)
        ratio = results.ratio(row.name, "old", "new")
        # A difference counts as one when all pairs agree on it.
        good = None if low is None or low <= 1 <= high else low > 1
        made.add(
            row.name,
            table.duration(results.median(row.name, "old")),
            table.duration(results.median(row.name, "new")),
            *(table.factor(value) for value in (ratio, low, high)),
            good=good,
        )
    print(made.text(table.wants_colour(sys.stdout)))
    for line in dict.fromkeys(results.warnings):
        print(f"warning: {line}", file=sys.stderr)
    for line in dict.fromkeys(results.failures):
        print(f"failed: {line}", file=sys.stderr)
    if json_path is not None:
        data = {row.name: {name: results.values(row.name, name) for name in names} for row in plan.rows}
        json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 1 if results.failures else 0
