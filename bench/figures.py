"""What one contestant has shown in one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
PROCESSES = ("producer", "coordinator", "consumers")


@dataclass
class Figures:
    """One round's figures; None is what nobody has measured."""

    seconds: float
    #: Delivered to all consumers together; without any, appended.
    batches: int
    bytes: int
    #: CPU seconds per GB that the process has carried, by process.
    cpu: dict[str, float | None] = field(default_factory=dict)
    #: Microseconds from append to delivery, or to the answer, by quantile.
    latency: dict[str, float] | None = None

    @property
    def mb_per_s(self) -> float:
        """Megabytes per second."""
        return self.bytes / 1e6 / self.seconds

    @property
    def batches_per_s(self) -> float:
        """Batches per second."""
        return self.batches / self.seconds

    def cpu_s_per_gb(self, process: str) -> float:
        """CPU seconds of one of PROCESSES per GB that it has carried. Raises RuntimeError if nobody has measured it."""
        cpu = self.cpu.get(process)
        if cpu is None:
            raise RuntimeError(f"nobody knows the CPU time of the {process}: it is measured on Linux alone")
        return cpu

    def cpu_us_per_batch(self, process: str) -> float:
        """The same as microseconds per batch that was delivered."""
        return self.cpu_s_per_gb(process) * self.bytes / self.batches / 1e3

    def json(self) -> dict[str, Any]:
        """As `bowstring bench --json` has it."""
        return {
            "seconds": self.seconds,
            "batches": self.batches,
            "bytes": self.bytes,
            "mb_per_s": self.mb_per_s,
            "batches_per_s": self.batches_per_s,
            "cpu_s_per_gb": {name: self.cpu.get(name) for name in PROCESSES},
            "latency_us": self.latency,
        }


def of_bench(round_: dict[str, Any]) -> Figures:
    """A round of `bowstring bench --json`."""
    return Figures(
        round_["seconds"], round_["batches"], round_["bytes"], round_["cpu_s_per_gb"], latency=round_["latency_us"]
    )


def figures(
    appending: dict[str, Any] | None, reading: Sequence[dict[str, Any]], server_cpu_seconds: float | None
) -> Figures:
    """From the reports of the ends."""
    carrying = list(reading) or ([appending] if appending else [])
    reports = [*reading, *([appending] if appending else [])]
    total = sum(report["bytes"] for report in carrying)
    seconds = (max(report["ended_ns"] for report in carrying) - min(report["begun_ns"] for report in reports)) / 1e9
    cpu: dict[str, float | None] = {}
    if appending:
        cpu["producer"] = appending["cpu_seconds"] / appending["bytes"] * 1e9
    if reading:
        cpu["consumers"] = sum(report["cpu_seconds"] for report in reading) / total * 1e9
    if server_cpu_seconds is not None:
        cpu["coordinator"] = server_cpu_seconds / total * 1e9
    latencies = np.repeat(
        [latency for report in reports for latency, _ in report.get("latency", ())],
        [count for report in reports for _, count in report.get("latency", ())],
    )
    quantiles = None
    if len(latencies):
        quantiles = {name: float(np.quantile(latencies, at, method="higher")) / 1e3 for name, at in QUANTILES.items()}
    return Figures(seconds, sum(report["batches"] for report in carrying), total, cpu, quantiles)
