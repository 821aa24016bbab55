"""Tables and numbers for people: as text for terminals, as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_BYTES_PER_UNIT = 1024.0


def span(seconds: float) -> str:
    """A duration, such as "340 ms", "2.3 s", "40 s", "4 min 10 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{int(seconds * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    large, unit, small, rest = whole // 60, "min", whole % 60, "s"
    if whole >= 3600:
        large, unit, small, rest = whole // 3600, "h", whole % 3600 // 60, "min"
    return f"{large} {unit} {small} {rest}" if small else f"{large} {unit}"


def size(count: float) -> str:
    """A size, such as "512 B", "1.5 MiB"."""
    if count < _BYTES_PER_UNIT:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= _BYTES_PER_UNIT
        if count < _BYTES_PER_UNIT:
            return f"{count:.1f} {unit}"
    return f"{count / _BYTES_PER_UNIT:.1f} PiB"


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns without frames, the heading in capitals."""
    lines = [[cell.upper() for cell in header], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same as HTML; whatever comes from outside is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
