"""Durable streams from Python: what was confirmed is there after the coordinator was stopped or killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.ipc
import pytest

import bowstring

from .support import Served, get, ids, numbered


def fill(client: bowstring.Client, batches: int) -> None:
    with client.producer("s") as producer:
        for number in range(batches):
            producer.append(numbered(10 * number))


def read(client: bowstring.Client) -> list[int]:
    return ids(client.iterator("s", subscription=None, follow=False))


def test_an_embedded_coordinator_finds_its_streams_again(tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    with bowstring.StreamCoordinator(data_dir=data_dir) as coordinator:
        client = coordinator.client()
        fill(client, 20)
        described = client.describe_stream("s")
        assert (described["is_durable"], described["logged_batches"]) == (True, 20)
        assert json.loads(get(f"{coordinator.http_url}/healthz"))["storage"] == "disk"
        with pytest.raises(bowstring.BowstringError, match="another coordinator uses it"):
            bowstring.StreamCoordinator(data_dir=data_dir)
    with bowstring.StreamCoordinator(data_dir=data_dir) as coordinator:
        assert read(coordinator.client()) == list(range(200))


def test_a_coordinator_in_memory_says_so(client: bowstring.Client, coordinator: bowstring.StreamCoordinator) -> None:
    fill(client, 1)
    assert client.describe_stream("s")["is_durable"] is False
    assert json.loads(get(f"{coordinator.http_url}/healthz"))["storage"] == "memory"


def test_a_killed_coordinator_has_lost_nothing_that_it_confirmed(serve: Callable[..., Served], tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    served = serve("--data-dir", data_dir)
    fill(bowstring.connect(served.url), 50)
    served.child.kill()
    served = serve("--data-dir", data_dir, "--listen", served.address)
    client = bowstring.connect(served.url)
    assert read(client) == list(range(500))
    assert client.describe_stream("s")["options"]["max_disk_bytes"] == 64 * 1024**3


def with_pyarrow(path: Path) -> list[int]:
    with pa.OSFile(str(path)) as file:
        table = pyarrow.ipc.open_stream(file).read_all()
    table.validate(full=True)
    return table["id"].to_pylist()


def with_polars(path: Path) -> list[int]:
    return polars.read_ipc_stream(path)["id"].to_list()


def with_duckdb(path: Path) -> list[int]:
    with pa.OSFile(str(path)) as file, duckdb.connect() as database:
        segment = pyarrow.ipc.open_stream(file)
        database.register("segment", segment)
        return [row[0] for row in database.execute("select id from segment").fetchall()]


@pytest.mark.parametrize("ids_in", [with_pyarrow, with_polars, with_duckdb])
def test_other_readers_open_a_segment_while_it_is_written_and_after(
    tmp_path: Path, ids_in: Callable[[Path], list[int]]
) -> None:
    data_dir = tmp_path / "data"

    def segment() -> Path:
        (path,) = data_dir.glob("streams/*/*/*.arrows")
        return path

    with bowstring.StreamCoordinator(data_dir=str(data_dir)) as coordinator:
        fill(coordinator.client(), 3)
        assert ids_in(segment()) == list(range(30))
    assert ids_in(segment()) == list(range(30))
