"""Where subscriptions and iterators start, and what a seek moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple, TypeAlias

from bowstring.errors import InvalidArgument


@dataclass(frozen=True)
class Epoch:
    """The start at a producer's epoch: in each partition at the first batch of this or a later one, else at the end.

    `epoch` may be up to one past the last that is committed. `producer` may be left out if only one producer of the
    stream commits epochs.
    """

    epoch: int
    producer: str | None = None


#: "earliest", "latest", offsets by partition, a time (aware), or an epoch; or one of them as text:
#: "0:100,1:50", "2026-11-01T12:00:00Z", "epoch:7", "epoch:7@PRODUCER".
Start: TypeAlias = str | Mapping[int, int] | datetime | Epoch


def start_text(start: Start) -> str:
    """The start as the coordinator's clients write it. Raises `InvalidArgument` for a time without a zone."""
    if isinstance(start, str):
        return start
    if isinstance(start, Epoch):
        return f"epoch:{start.epoch}" if start.producer is None else f"epoch:{start.epoch}@{start.producer}"
    if isinstance(start, datetime):
        if start.utcoffset() is None:
            text = f"the time {start} to start at has no zone, so nobody knows when it is; give one with tzinfo"
            raise InvalidArgument(text, "invalid_argument", False)
        return start.astimezone(timezone.utc).isoformat()
    if isinstance(start, Mapping):
        return ",".join(f"{partition}:{offset}" for partition, offset in start.items()) or "offsets"
    instead = "use 'earliest', 'latest', a dict of offsets, a datetime with a zone, or bowstring.Epoch"
    text = f"{start!r} is no start; {instead}"
    raise InvalidArgument(text, "invalid_argument", False)


class PartitionMove(NamedTuple):
    """How a seek moves a subscription in one partition.

    `batches`, `rows` and `bytes` are what lies between the offsets `before` and `after`: read again if it moves back,
    else skipped. `gone_batches` lie before the earliest, where the seek goes to, and are not kept any more.
    """

    partition: int
    before: int
    after: int
    batches: int
    rows: int
    bytes: int
    gone_batches: int


@dataclass(frozen=True)
class Moved:
    """What a seek has moved, or would have as a dry run: each partition, also those that stay."""

    partitions: tuple[PartitionMove, ...]
    dry_run: bool = False

    @property
    def again(self) -> tuple[int, int, int]:
        """Batches, rows and bytes that are read again."""
        return _sum([move for move in self.partitions if move.after < move.before])

    @property
    def skipped(self) -> tuple[int, int, int]:
        """Batches, rows and bytes that are skipped."""
        return _sum([move for move in self.partitions if move.after > move.before])

    @property
    def gone_batches(self) -> int:
        """Batches before the earliest, where the seek goes to, that are not kept any more."""
        return sum(move.gone_batches for move in self.partitions)

    def __repr__(self) -> str:
        moves = "; ".join(f"partition {move.partition}: {_said(move)}" for move in self.partitions)
        return f"<{'would move' if self.dry_run else 'moved'} {moves}>"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        names = ("partition", "from", "to", "", "batches", "rows", "bytes", "not kept any more")
        lines = [
            (move.partition, move.before, move.after, _direction(move), *move[3:6], move.gone_batches)
            for move in self.partitions
        ]
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
        caption = "A dry run: nothing has moved" if self.dry_run else "Moved"
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sum(moves: list[PartitionMove]) -> tuple[int, int, int]:
    return sum(move.batches for move in moves), sum(move.rows for move in moves), sum(move.bytes for move in moves)


def _direction(move: PartitionMove) -> str:
    if move.after == move.before:
        return "stays"
    return "again" if move.after < move.before else "skipped"


def _said(move: PartitionMove) -> str:
    gone = f", {_batches(move.gone_batches)} before it not kept any more" if move.gone_batches else ""
    if move.after == move.before:
        return f"stays at {move.after}{gone}"
    amount = f"{_batches(move.batches)}, {move.rows} rows, {move.bytes} bytes {_direction(move)}"
    return f"{move.before} to {move.after} ({amount}{gone})"


def _batches(count: int) -> str:
    return f"{count} batch" if count == 1 else f"{count} batches"
