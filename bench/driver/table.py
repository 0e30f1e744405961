# SPDX-License-Identifier: Apache-2.0
"""Tables as text for people and as Markdown for the documentation."""

import os


def duration(nanoseconds):
    """Three significant digits with a unit; "-" for None."""
    if nanoseconds is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(nanoseconds) >= size * 0.9995:
            return f"{_digits(nanoseconds / size)} {unit}"
    return f"{_digits(nanoseconds)} ns"


def factor(value):
    """Such as 3.14x; "-" for None."""
    return "-" if value is None else f"{_digits(value)}x"


def _digits(value):
    size = abs(value)
    return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.0f}"


class Table:
    """Rows of cells; the first column is aligned left, the others right."""

    def __init__(self, *head):
        self._head = head
        self._rows = []

    def add(self, *cells, good=None):
        """good: True or False colours the row's verdict, in its last cell that is not empty."""
        self._rows.append((cells, good))

    def text(self, colour):
        columns = zip(self._head, *(cells for cells, _ in self._rows))
        widths = [max(map(len, column)) for column in columns]

        def line(cells):
            padded = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
            return "  ".join(padded).rstrip()

        lines = [line(self._head), "  ".join("-" * width for width in widths)]
        for cells, good in self._rows:
            text = line(cells)
            if colour and good is not None:
                text = f"\x1b[{32 if good else 31}m{text}\x1b[0m"
            lines.append(text)
        return "\n".join(lines)

    def markdown(self):
        lines = ["| " + " | ".join(self._head) + " |", "|---|" + "---:|" * (len(self._head) - 1)]
        lines += ["| " + " | ".join(cells) + " |" for cells, _ in self._rows]
        return "\n".join(lines)


def wants_colour(stream):
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
