# SPDX-License-Identifier: Apache-2.0
"""What was measured, pair by pair, and what follows from it."""

import statistics


class Results:
    """Values by row and place. A value is nanoseconds for one operation; None where a run failed."""

    def __init__(self, rows, places):
        self.rows = list(rows)
        self.places = list(places)
        self._values = {(row.name, place): [] for row in rows for place in places}
        self.failures = []
        self.warnings = []
        self.memory = []  # of Gnomon's untraced runs

    def add(self, row, place, value):
        """The value of the next pair."""
        self._values[row, place].append(value)

    def values(self, row, place):
        return self._values.get((row, place), [])

    def measured(self, row, place):
        return [value for value in self.values(row, place) if value is not None]

    def median(self, row, place):
        """None if nothing was measured."""
        found = self.measured(row, place)
        return statistics.median(found) if found else None

    def ratios(self, row, over, under):
        """One for each pair in which both were measured."""
        pairs = zip(self.values(row, over), self.values(row, under))
        return [a / b for a, b in pairs if a is not None and b is not None and b > 0]

    def ratio(self, row, over, under):
        """The median of the pairs' ratios, or None."""
        found = self.ratios(row, over, under)
        return statistics.median(found) if found else None

    def added(self, row, over, under):
        """The median of the pairs' differences in nanoseconds, or None."""
        pairs = zip(self.values(row, over), self.values(row, under))
        found = [a - b for a, b in pairs if a is not None and b is not None]
        return statistics.median(found) if found else None


def spread(values):
    """Least and greatest, or None."""
    return (min(values), max(values)) if values else None
