"""What was measured, as a table, as floors and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Series:
    """One value per contestant and round; value i of all contestants is of the same round."""

    name: str
    unit: str
    values: dict[str, list[float]]

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


def print_table(series: Series, against: list[str]) -> None:
    """One row per contestant: median, spread, ratios."""
    rounds = len(next(iter(series.values.values())))
    print(f"\n{series.name}, {series.unit}, {rounds} interleaved rounds")
    columns = "".join(f"{'x ' + name.split(',')[0]:>18}" for name in against)
    print(f"  {'':<28}{'median':>10}{'lowest':>10}{'highest':>10}{columns}")
    for name, values in series.values.items():
        figures = "".join(
            f"{figure:>10,.{_digits(figure)}f}" for figure in (series.median(name), min(values), max(values))
        )
        ratios = "".join(f"{series.ratio(name, other):>18.2f}" for other in against)
        print(f"  {name:<28}{figures}{ratios}", flush=True)


def print_floors(floors: list[Floor]) -> None:
    """One row per floor: pass or fail."""
    print("\nfloors")
    for floor in floors:
        print(
            f"  {'pass' if floor.holds else 'FAIL'}  {floor.name:<58}{floor.ratio:>6.2f}  (at least {floor.floor:.2f})"
        )


def write_json(path: Path, measured: list[Series], floors: list[Floor], *, smoke: bool) -> None:
    """The same figures, every round of them."""
    report = {
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "smoke": smoke,
        "series": [{"name": series.name, "unit": series.unit, "values": series.values} for series in measured],
        "floors": [{"name": f.name, "ratio": f.ratio, "floor": f.floor, "holds": f.holds} for f in floors],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nevery round's figures: {path}")


def _digits(figure: float) -> int:
    return 0 if figure >= 100 else 2
