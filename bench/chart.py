"""The medians as a picture: a panel per series, a bar per contestant. Written by hand, since bars need no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.report import Series

WIDTH, NAMES, BARS = 900, 230, 520
ROW, HEAD, GAP = 22, 34, 18
OURS, THEIRS, LIMIT = "#1f6f8b", "#b0b7bd", "#dfe3e6"


def write_chart(path: Path, measured: Sequence[Series], *, note: str) -> None:
    """An SVG beside the JSON; within a panel bars compare, between panels they do not."""
    panels, top = [], 40
    for series in measured:
        panels.append(_panel(series, top))
        top += HEAD + ROW * len(series.values) + GAP
    head = f'<text x="16" y="24" font-size="13" fill="#555">{escape(note)}</text>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        f'font-family="sans-serif"><rect width="{WIDTH}" height="{top}" fill="#fff"/>{head}{"".join(panels)}</svg>\n'
    )
    path.write_text(svg)
    print(f"the medians as a chart: {path}")


def _panel(series: Series, top: int) -> str:
    medians = {name: series.median(name) for name in series.values}
    longest = max(max(values) for values in series.values.values()) or 1.0
    better = "" if series.more_is_better else ", less is better"
    title = f"{series.name} ({series.unit}{better})"
    parts = [f'<text x="16" y="{top + 18}" font-size="15" font-weight="bold">{escape(title)}</text>']
    for row, (name, median) in enumerate(medians.items()):
        y = top + HEAD + row * ROW
        values = series.values[name]
        low, high = (NAMES + BARS * value / longest for value in (min(values), max(values)))
        middle = y + ROW / 2 - 3
        width = BARS * median / longest
        figure = f"{median:,.{0 if median >= 100 else 2}f}"
        parts += [
            f'<text x="{NAMES - 8}" y="{y + 13}" font-size="12" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{y}" width="{width:.1f}" height="{ROW - 6}" fill="{_fill(name)}"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#333"/>',
            f'<text x="{max(high, NAMES) + 8:.1f}" y="{y + 13}" font-size="12">{figure}</text>',
        ]
    return "".join(parts)


def _fill(name: str) -> str:
    if "bowstring" in name:
        return OURS
    return LIMIT if name.startswith(("raw", "Spark's")) else THEIRS
