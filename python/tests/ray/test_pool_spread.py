"""A pool on a stream that is spread over several coordinators."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest

import bowstring
from bowstring.ray import ConsumerPool
from bowstring.spread import SpreadClient

from ..support import numbered
from .test_pool import SMALL, copies

pytestmark = pytest.mark.usefixtures("ray_session")


def test_an_actor_killed_at_work_on_a_spread_stream_loses_and_doubles_nothing(
    client: bowstring.Client, tmp_path: Path
) -> None:
    once = tmp_path / "killed"

    def dies_once(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["id"][0].as_py() == 300:
            try:
                once.mkdir()
            except FileExistsError:
                return batch
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    with bowstring.StreamCoordinator() as other:
        spread = SpreadClient([client.url, other.url])
        spread.create_stream("numbers", partitions=4, max_buffered_batches=2000)
        client.create_stream("copies", max_buffered_batches=2000)
        with spread.producer("numbers") as producer:
            for number in range(60):
                producer.append(numbered(number * 10))
        spread.complete_stream("numbers")
        options = {"client": spread, "output": "copies", "output_client": client, **SMALL}
        with ConsumerPool(dies_once, "numbers", min_consumers=2, max_consumers=3, **options) as pool:
            pool.join(120)
            assert pool.stats().died >= 1
        assert spread.lag("numbers")["default"].total.batches == 0
    assert copies(client) == list(range(600))
