"""What was measured, as tables, as floors and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import PROCESSES, QUANTILES, Figures


@dataclass
class Series:
    """One value per contestant and round; value i of all contestants is of the same round."""

    name: str
    unit: str
    values: dict[str, list[float]]
    #: Whom ratios are of.
    against: Sequence[str] = ()
    #: What is better: more, or less.
    more_is_better: bool = True
    #: Of the same rounds, where there is more than the value.
    figures: dict[str, list[Figures]] = field(default_factory=dict)

    def median(self, contestant: str) -> float:
        """The contestant's median."""
        return statistics.median(self.values[contestant])

    def ratio(self, contestant: str, against: str) -> float:
        """The median of the rounds' ratios: what both share in a round (a busy machine) cancels out."""
        pairs = zip(self.values[contestant], self.values[against], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


@dataclass(frozen=True)
class Floor:
    """A ratio that must not be lower."""

    name: str
    ratio: float
    floor: float

    @property
    def holds(self) -> bool:
        """Whether it is not lower."""
        return self.ratio >= self.floor


def print_table(series: Series) -> None:
    """One row per contestant: median, spread, ratios, CPU, latencies."""
    rounds = len(next(iter(series.values.values())))
    against = [name for name in series.against if name in series.values]
    print(f"\n{series.name}, {series.unit}, {rounds} interleaved rounds")
    heads = {name: f"x {name.split(',')[0]}" for name in against}
    widths = {name: max(18, len(head) + 2) for name, head in heads.items()}
    columns = "".join(f"{head:>{widths[name]}}" for name, head in heads.items())
    more = _more(series)
    columns += "".join(f"{heading:>13}" for heading, _ in more)
    print(f"  {'':<34}{'median':>10}{'lowest':>10}{'highest':>10}{columns}")
    for name, values in series.values.items():
        figures = "".join(
            f"{figure:>10,.{_digits(figure)}f}" for figure in (series.median(name), min(values), max(values))
        )
        ratios = "".join(f"{series.ratio(name, other):>{widths[other]}.2f}" for other in against)
        print(f"  {name:<34}{figures}{ratios}{_cells(series.figures.get(name, []), more)}", flush=True)
    if any(column in PROCESSES for column, _ in more):
        print("  producer, coordinator, consumers: CPU seconds per GB that the process has carried")


Part = Callable[[Figures], float | None]


def _more(series: Series) -> list[tuple[str, Part]]:
    if not series.figures:
        return []
    more: list[tuple[str, Part]] = []
    if any(figures.latency for rounds in series.figures.values() for figures in rounds):
        # Of a series of latencies that is the value already.
        shown = [name for name in QUANTILES if name != "p50" or series.more_is_better]
        more += [(name, lambda f, name=name: f.latency and f.latency[name]) for name in shown]
    else:
        more.append(("batches/s", lambda f: f.batches_per_s))
    if any(figures.cpu for rounds in series.figures.values() for figures in rounds):
        more += [(name, lambda f, name=name: f.cpu.get(name)) for name in PROCESSES]
    return more


def _cells(rounds: list[Figures], more: list[tuple[str, Part]]) -> str:
    cells = ""
    for _, part in more:
        values = [value for figures in rounds if (value := part(figures)) is not None]
        median = statistics.median(values) if values else None
        cells += f"{'-':>13}" if median is None else f"{median:>13,.{_digits(median)}f}"
    return cells


def print_floors(floors: list[Floor]) -> None:
    """One row per floor: pass or fail."""
    if floors:
        print("\nfloors")
    for floor in floors:
        print(
            f"  {'pass' if floor.holds else 'FAIL'}  {floor.name:<58}{floor.ratio:>6.2f}  (at least {floor.floor:.2f})"
        )


def print_slower(measured: list[Series], compared: Mapping[str, Sequence[str]]) -> None:
    """Where one of ours is behind a peer of the same run: what there is to do."""
    slower = []
    for series in measured:
        for name in (name for name in compared if name in series.values):
            for peer in (peer for peer in compared[name] if peer in series.values):
                ratio = series.ratio(name, peer)
                if ratio < 1 if series.more_is_better else ratio > 1:
                    slower.append(f"  {series.name}: {name} {ratio:.2f} of {peer}")
    if slower:
        print("\nbehind a peer of this run", *slower, sep="\n")


def as_json(measured: list[Series], floors: list[Floor], *, smoke: bool) -> dict[str, Any]:
    """The same figures, every round of them."""
    return {
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "smoke": smoke,
        "series": [
            {
                "name": series.name,
                "unit": series.unit,
                "values": series.values,
                "rounds": {name: [one.json() for one in rounds] for name, rounds in series.figures.items()},
            }
            for series in measured
        ],
        "floors": [{"name": f.name, "ratio": f.ratio, "floor": f.floor, "holds": f.holds} for f in floors],
    }


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Beside the table."""
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nevery round's figures: {path}")


def counted(count: int, noun: str) -> str:
    """For a name: "1 stream", "1,000 streams"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _digits(figure: float) -> int:
    return 0 if figure >= 100 else 2 if figure >= 1 else 3
