"""Whether a figure that ought to stay where it is drifts: its slope over a run, against its own noise."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

#: A run's samples are looked at as so many medians: single ones are not independent of their neighbours.
PARTS = 12
#: Slopes are told from noise from so many standard errors on.
SIGNIFICANT = 4.0


@dataclass(frozen=True)
class Drift:
    """What a figure did in a run."""

    level: float
    #: By how much it went up from the run's begin to its end, by the line through it.
    rise: float
    #: One standard error of that.
    noise: float

    def is_alarming(self, allowance: float) -> bool:
        """More than is allowed, and more than noise."""
        return self.rise > allowance and self.rise > SIGNIFICANT * self.noise

    def __str__(self) -> str:
        return f"{self.level:.4g}, drift {self.rise:+.2g} ± {self.noise:.2g}"


def drift(samples: Sequence[float]) -> Drift:
    """The drift of samples at even intervals, warm-up left out; at least one for each part."""
    assert len(samples) >= PARTS, f"{len(samples)} samples are too few"
    bounds = [len(samples) * part // PARTS for part in range(PARTS + 1)]
    values = [median(samples[begin:end]) for begin, end in itertools.pairwise(bounds)]
    middle, level = (PARTS - 1) / 2, fmean(values)
    spread = sum((part - middle) ** 2 for part in range(PARTS))
    slope = sum((part - middle) * (value - level) for part, value in enumerate(values)) / spread
    rest = [value - level - slope * (part - middle) for part, value in enumerate(values)]
    error = (sum(one * one for one in rest) / (PARTS - 2) / spread) ** 0.5
    return Drift(median(samples), slope * PARTS, error * PARTS)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Files, sockets and pipes that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """Threads of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
