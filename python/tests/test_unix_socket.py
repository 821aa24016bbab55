"""The Unix socket: found by bowstring's clients, given to stock ones."""

from __future__ import annotations

import json
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

import bowstring

from .support import Served, ids, numbered, wait_until


def by_unix(client: bowstring.Client) -> int:
    count: int = client.get_stats()["open_unix_connections"]
    return count


def append(client: bowstring.Client, stream: str) -> None:
    with client.producer(stream) as producer:
        producer.append(numbered(0))
        producer.complete()


@pytest.mark.parametrize("local_socket", [True, False])
def test_data_goes_by_the_socket_unless_told_otherwise_and_iterators_and_pickles_know(
    serve: Callable[..., Served], local_socket: bool
) -> None:
    client = bowstring.connect(serve().url, local_socket=local_socket)
    with client.producer("s") as producer:
        producer.append(numbered(0))
    copy = pickle.loads(pickle.dumps(client))
    wait_until(lambda: by_unix(client) == 0)
    for one in (client, copy):
        with one.iterator("s", subscription=None) as iterator, pickle.loads(pickle.dumps(iterator)) as twin:
            assert ids([next(iterator)]) == ids([next(twin)]) == list(range(10))
            assert by_unix(client) == (2 if local_socket else 0)
        wait_until(lambda: by_unix(client) == 0)


def test_a_url_of_the_socket_does_for_everything(coordinator: bowstring.StreamCoordinator) -> None:
    assert coordinator.unix_url is not None
    with coordinator:
        client = bowstring.connect(coordinator.unix_url)
        append(client, "s")
        assert ids(bowstring.StreamingIterator(coordinator.unix_url, "s")) == list(range(10))
        assert client.url == coordinator.unix_url
    with pytest.raises(bowstring.Unavailable, match="unix"):
        bowstring.connect(coordinator.unix_url, timeout=0.1)


def test_a_stock_flight_client_appends_and_reads_by_the_socket(coordinator: bowstring.StreamCoordinator) -> None:
    stock = flight.connect(coordinator.unix_url)
    batch = pa.record_batch({"id": list(range(1000))})
    writer, _ = stock.do_put(flight.FlightDescriptor.for_path("clicks"), batch.schema)
    for _ in range(5):
        writer.write_batch(batch)
    writer.close()
    (endpoint,) = stock.get_flight_info(flight.FlightDescriptor.for_path("clicks")).endpoints
    assert stock.do_get(endpoint.ticket).read_all() == pa.Table.from_batches([batch] * 5)
    (result,) = stock.do_action(flight.Action("describe", b"clicks"))
    assert json.loads(result.body.to_pybytes())["stream"] == "clicks"


def test_the_socket_can_be_named_and_turned_off(tmp_path: Path) -> None:
    named = tmp_path / "s"
    with bowstring.StreamCoordinator(unix=str(named)) as coordinator:
        assert coordinator.unix_url == f"grpc+unix://{named}"
        assert stat.S_ISSOCK(named.stat().st_mode)
        with pytest.raises(bowstring.InvalidArgument, match="another server listens there"):
            bowstring.StreamCoordinator(unix=str(named))
    assert not named.exists()
    with bowstring.StreamCoordinator(unix=None) as coordinator:
        assert coordinator.unix_url is None
        append(coordinator.client(), "s")
    with pytest.raises(bowstring.InvalidArgument, match="more than the"):
        bowstring.StreamCoordinator(unix=str(tmp_path / ("x" * 120)))


def test_the_default_socket_is_in_a_folder_of_the_users_alone(coordinator: bowstring.StreamCoordinator) -> None:
    assert coordinator.unix_url is not None
    folder = Path(coordinator.unix_url.removeprefix("grpc+unix://")).parent.stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid) == (0o700, os.geteuid())


def test_a_reader_whose_coordinator_is_killed_is_told_whichever_way_it_came(
    serve: Callable[..., Served],
) -> None:
    for local_socket in (True, False):
        served = serve()
        client = bowstring.connect(served.url, retry_deadline=0.5, local_socket=local_socket)
        with client.producer("s") as producer:
            producer.append(numbered(0))
        iterator = client.iterator("s")
        assert ids([next(iterator)]) == list(range(10))
        assert by_unix(client) == (1 if local_socket else 0)
        served.child.kill()
        with pytest.raises(bowstring.Unavailable):
            next(iterator)
