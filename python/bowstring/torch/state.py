"""How far a training has come in a stream: what is saved of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bowstring.errors import InvalidArgument

#: A round's number, and rows [first, end) of it.
Rows = tuple[int, int, int]
VERSION = 2


@dataclass(frozen=True)
class State:
    """Which rows all ranks together have not had yet: `left`, and every round from `next_round` on.

    It says nothing of ranks, so that any number of them can go on from it.
    """

    stream: str
    stream_id: int
    subscription: str
    next_round: int
    left: tuple[Rows, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Of plain numbers, lists and texts, as `torch.save` and `json` take it."""
        return {
            "version": VERSION,
            "stream": self.stream,
            "stream_id": self.stream_id,
            "subscription": self.subscription,
            "next_round": self.next_round,
            "left": [list(one) for one in self.left],
        }

    @staticmethod
    def from_dict(given: Mapping[str, Any], stream: str, subscription: str) -> State:
        """Raises `InvalidArgument` if it is not whole, of another version, or of another stream or subscription."""
        if given.get("version") != VERSION:
            text = f"the state has version {given.get('version')!r}, and this bowstring knows {VERSION}"
            raise InvalidArgument(f"{text}; use a state of StreamDataset.state_dict", "invalid_argument", False)
        if missing := [
            key for key in ("stream", "stream_id", "subscription", "next_round", "left") if key not in given
        ]:
            text = f"the state lacks {', '.join(missing)}; use a state of StreamDataset.state_dict"
            raise InvalidArgument(text, "invalid_argument", False)
        if (given["stream"], given["subscription"]) != (stream, subscription):
            text = f"the state is of stream {given['stream']}, subscription {given['subscription']}"
            text = f"{text}; this dataset reads {stream}, {subscription}"
            raise InvalidArgument(text, "invalid_argument", False)
        left = tuple((number, first, end) for number, first, end in given["left"])
        return State(stream, given["stream_id"], subscription, given["next_round"], left)

    @property
    def first_round(self) -> int:
        """The oldest round of which there is something left."""
        return min((number for number, _, _ in self.left), default=self.next_round)


def count(rows: tuple[Rows, ...]) -> int:
    """How many rows."""
    return sum(end - first for _, first, end in rows)


def cut(rows: tuple[Rows, ...], size: int) -> tuple[tuple[Rows, ...], tuple[Rows, ...]]:
    """The first `size` of them, and the others."""
    before: list[Rows] = []
    for at, (number, first, end) in enumerate(rows):
        if end - first > size:
            middle = first + size
            front = (*before, (number, first, middle)) if size else tuple(before)
            return front, ((number, middle, end), *rows[at + 1 :])
        before.append((number, first, end))
        size -= end - first
    return tuple(before), ()


def repeated(rows: tuple[Rows, ...], size: int) -> tuple[Rows, ...]:
    """The first `size` of them; from the beginning again where there are fewer."""
    found: tuple[Rows, ...] = ()
    while size > 0:
        front, _ = cut(rows, size)
        found += front
        size -= count(front)
    return found
