"""Which coordinator has which partition of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bowstring.errors import InvalidArgument, OffsetError, StreamNotFound
from bowstring.starts import Epoch, Start


@dataclass(frozen=True)
class Places:
    """Where the partitions of a stream are: partition p is partition p // n of coordinator p % n.

    Attributes:
        stream: its name.
        partitions: how many it has.
        coordinators: n.
        stream_ids: of each coordinator, the id of the stream there.
    """

    stream: str
    partitions: int
    coordinators: int
    stream_ids: tuple[int, ...]

    def place(self, partition: int) -> tuple[int, int]:
        """The coordinator of a partition, and what number it has there. Raises `OffsetError`."""
        if not 0 <= partition < self.partitions:
            text = f"stream {self.stream} has partitions 0 to {self.partitions - 1} and no {partition}"
            raise OffsetError(text, "partition_out_of_range", False)
        return partition % self.coordinators, partition // self.coordinators

    def number(self, coordinator: int, partition: int) -> int:
        """The stream's partition that is this one of that coordinator."""
        return partition * self.coordinators + coordinator

    def divided(self, partitions: Iterable[int]) -> dict[int, list[int]]:
        """By coordinator, what numbers these partitions have there. Raises `OffsetError`."""
        found: dict[int, list[int]] = {}
        for partition in partitions:
            coordinator, there = self.place(partition)
            found.setdefault(coordinator, []).append(there)
        return found

    def offsets(self, offsets: Mapping[int, int], coordinator: int) -> dict[int, int]:
        """Those of one coordinator's partitions, by their numbers there. Raises `OffsetError`."""
        placed = {self.place(partition): offset for partition, offset in offsets.items()}
        return {there: offset for (which, there), offset in placed.items() if which == coordinator}

    def start(self, start: Start, coordinator: int) -> Start:
        """What the start is at one coordinator.

        Raises `InvalidArgument` for an epoch, of which each coordinator would have its own, and for offsets as text.
        """
        if isinstance(start, Mapping):
            return self.offsets(start, coordinator)
        if isinstance(start, Epoch) or (isinstance(start, str) and start.startswith("epoch:")):
            text = "a stream over several coordinators has no epochs to start at; use a time, or a dict of offsets"
            raise InvalidArgument(text, "invalid_argument", False)
        if isinstance(start, str) and start.partition(":")[0].isdecimal():
            text = (
                f"the start {start!r} of a stream over several coordinators is text; use a dict of partition to offset"
            )
            raise InvalidArgument(text, "invalid_argument", False)
        return start


def counts(partitions: int, coordinators: int) -> list[int]:
    """How many of the partitions each coordinator has."""
    return [len(range(coordinator, partitions, coordinators)) for coordinator in range(coordinators)]


def places_of(stream: str, descriptions: Sequence[Mapping[str, Any] | None]) -> Places:
    """From each coordinator's description of the stream, None where it has none.

    Raises `StreamNotFound` if not all that have to have it do, and `InvalidArgument` if no stream over so many
    coordinators has such partitions.
    """
    there = [0 if one is None else len(one["partitions"]) for one in descriptions]
    if not any(there):
        raise StreamNotFound(f"there is no stream {stream} at any of the coordinators", "stream_not_found", False)
    missing = [index for index, count in enumerate(there) if count == 0]
    if missing:
        text = (
            f"stream {stream} is not whole: of {len(there)} coordinators those with the numbers {missing} have no part "
            "of it. They were started anew without a data directory, or it was not created to the end: create it again "
            "with if_not_exists, or delete it first"
        )
        raise StreamNotFound(text, "stream_not_found", False)
    expected = counts(sum(there), len(there))
    if there == expected:
        ids = tuple(one["stream_id"] for one in descriptions if one is not None)
        return Places(stream, sum(there), len(there), ids)
    text = (
        f"the coordinators have {there} partitions of stream {stream}; spread over {len(there)} they would have "
        f"{expected}: name the coordinators that it was created with, in the same order"
    )
    raise InvalidArgument(text, "invalid_argument", False)
