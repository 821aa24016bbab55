"""What `print_stats` prints, and when it ends."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming.monitor import print_stats


def filled(coordinator: bowstring.StreamCoordinator) -> bowstring.Client:
    client = coordinator.client()
    client.create_stream("clicks", partitions=2)
    client.subscribe("clicks", "trainer")
    with client.producer("clicks") as producer:
        for number in range(4):
            producer.append(pa.table({"n": [number] * 10}), partition=number % 2)
    return client


@pytest.mark.parametrize("of", ["coordinator", "client", "url"])
def test_a_line_per_stream_says_what_is_held_and_who_lags(of: str) -> None:
    with bowstring.StreamCoordinator() as coordinator:
        client = filled(coordinator)
        given = {"coordinator": coordinator, "client": client, "url": coordinator.url}[of]
        out = io.StringIO()
        print_stats(given, interval=0.05, count=2, file=out)
        lines = out.getvalue().splitlines()
        assert len(lines) == 2
        for words in ("clicks [open] 40 rows", "buffer 4/64 batches", "lag: trainer 4 batches"):
            assert words in lines[0]


def test_it_ends_with_the_last_stream() -> None:
    with bowstring.StreamCoordinator() as coordinator:
        client = filled(coordinator)
        client.complete_stream("clicks")
        out = io.StringIO()
        print_stats(coordinator, interval=0.05, file=out)
        assert "clicks [completed]" in out.getvalue()


def test_a_stream_that_does_not_exist_is_an_error() -> None:
    with bowstring.StreamCoordinator() as coordinator, pytest.raises(bowstring.StreamNotFound):
        print_stats(coordinator, stream="nothing")
