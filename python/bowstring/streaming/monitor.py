"""A stream's figures in the terminal."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import bowstring


def print_stats(
    coordinator: Any,
    interval: float = 2.0,
    *,
    stream: str | None = None,
    count: int | None = None,
    file: TextIO | None = None,
) -> None:
    """Prints a line per stream every `interval` seconds, until all streams have ended, `count` rounds, or Ctrl-C.

    Args:
        coordinator: a ``StreamCoordinator``, a ``Client``, a URL, or what from_spark_streaming returned.
        interval: seconds between two rounds.
        stream: only this stream.
        count: how many rounds; None goes on until the end.
        file: where to print; standard output if None.
    """
    client = _client(coordinator)
    out = file or sys.stdout
    before: dict[str, tuple[float, int]] = {}
    rounds = 0
    try:
        while True:
            found = client.list_streams() if stream is None else [client.describe_stream(stream)]
            for description in found:
                print(_line(description, before), file=out, flush=True)
            rounds += 1
            if rounds == count or (found and all(one["state"] != "open" for one in found)):
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        return


def _line(description: dict[str, Any], before: dict[str, tuple[float, int]]) -> str:
    name, now = description["stream"], time.monotonic()
    rows = sum(int(entry["rows_total"]) for entry in description["partitions"])
    earlier, rows_then = before.get(name, (now, rows))
    before[name] = (now, rows)
    rate = (rows - rows_then) / (now - earlier) if now > earlier else 0.0
    options = description["options"]
    lags = ", ".join(f"{one['subscription']} {_lag(one)}" for one in description["subscriptions"]) or "none"
    return (
        f"{time.strftime('%H:%M:%S')} {name} [{description['state']}] {rows:,} rows, {rate:,.0f}/s | "
        f"buffer {description['buffered_batches']}/{options['max_buffered_batches']} batches, "
        f"{_size(description['buffered_bytes'])}/{_size(options['max_buffered_bytes'])} | "
        f"spool {_size(description['spooled_bytes'])} | epochs {description['epochs_committed']} | "
        f"waiting {len(description['waiting'])} | lag: {lags}"
    )


def _lag(subscription: dict[str, Any]) -> str:
    batches = sum(int(entry["lag_batches"]) for entry in subscription["partitions"])
    age = max((int(entry["lag_age_micros"]) for entry in subscription["partitions"]), default=0) / 1e6
    return f"{batches} batches, {age:.1f} s"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _client(coordinator: Any) -> bowstring.Client:
    if isinstance(coordinator, bowstring.Client):
        return coordinator
    return bowstring.connect(coordinator if isinstance(coordinator, str) else coordinator.url)
