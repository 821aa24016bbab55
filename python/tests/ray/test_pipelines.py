"""The pipelines' examples wait for no query, pool or actor that has failed, and tell when nobody was killed."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from types import ModuleType

import pytest
import ray

import bowstring
from bowstring.ray import ConsumerPool

pytestmark = pytest.mark.usefixtures("ray_session")

EXAMPLES = Path(__file__).parents[3] / "examples"


class Query:
    """A Spark query that has failed, or has not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def exception(self) -> Exception | None:
        return self.error


@pytest.fixture
def palettes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("kafka_palettes")


@pytest.fixture
def lakehouse(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("lakehouse")


def test_palettes_are_not_waited_for_when_their_pool_has_failed(
    palettes: ModuleType, coordinator: bowstring.StreamCoordinator, tmp_path: Path
) -> None:
    pipeline = palettes.Pipeline(None, coordinator, "", tmp_path)
    pipeline.client.create_stream("images")
    options = {"subscription": "ray", "min_consumers": 0, "interval": 0.05}
    pool = ConsumerPool(len, "images", client=pipeline.client, **options)
    looks = iter([False, False, True])
    pipeline.wait(lambda: next(looks), "so at the third look", pool)
    pipeline.client.delete_stream("images")
    with pytest.raises(bowstring.StreamNotFound):
        pipeline.wait(lambda: False, "never", pool)
    pool.stop()


@pytest.mark.parametrize("failed", [0, 1])
def test_palettes_are_not_waited_for_when_either_query_has_failed(
    failed: int, palettes: ModuleType, coordinator: bowstring.StreamCoordinator, tmp_path: Path
) -> None:
    pipeline = palettes.Pipeline(None, coordinator, "", tmp_path)
    pipeline.client.create_stream("images")
    pipeline.queries = tuple(Query(ValueError("no disk") if number == failed else None) for number in (0, 1))
    with (
        ConsumerPool(len, "images", client=pipeline.client, subscription="ray", min_consumers=0) as pool,
        pytest.raises(ValueError, match="no disk"),
    ):
        pipeline.wait(lambda: False, "never", pool)


@ray.remote(num_cpus=0.1)
def look(gate: Path | None) -> int:
    """Fails at once, or takes as long as the path exists."""
    if gate is None:
        raise ValueError("no such column")
    while gate.exists():
        time.sleep(0.02)  # As an actor that waits for batches.
    return 1


@pytest.mark.parametrize("failed", [0, 1])
def test_flights_are_not_waited_for_when_either_query_has_failed(
    failed: int, lakehouse: ModuleType, coordinator: bowstring.StreamCoordinator, tmp_path: Path
) -> None:
    pipeline = lakehouse.Pipeline(None, None, coordinator, tmp_path)
    pipeline.looked = [look.remote(tmp_path / "open")]
    pipeline.queries = tuple(Query(ValueError("no disk") if number == failed else None) for number in (0, 1))
    with pytest.raises(ValueError, match="no disk"):
        pipeline.wait(lambda: False, "never")


def test_flights_are_not_waited_for_when_an_actor_has_failed_or_for_ever(
    lakehouse: ModuleType, coordinator: bowstring.StreamCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = lakehouse.Pipeline(None, None, coordinator, tmp_path)
    pipeline.queries = Query(), Query()
    gate = tmp_path / "closed"
    gate.touch()
    waits = look.remote(gate)
    pipeline.looked = [waits, look.remote(None)]
    with pytest.raises(ValueError, match="no such column"):
        pipeline.wait(lambda: False, "never")

    for stream in ("flights", "gains"):
        pipeline.client.create_stream(stream)
    pipeline.looked = [waits]
    monkeypatch.setattr(lakehouse, "WAIT_SECONDS_MAX", 0)
    with pytest.raises(TimeoutError, match="not within 0 s: never; 0 flights are in the stream, 0 results"):
        pipeline.wait(lambda: False, "never")
    monkeypatch.undo()
    gate.unlink()
    pipeline.wait(lambda: pipeline.check() == [1], "the actor is done")


def test_a_run_in_which_no_actor_died_is_told(lakehouse: ModuleType) -> None:
    lakehouse.check_kills(len(lakehouse.DIES_AT))
    for again in (0, 2):
        with pytest.raises(
            RuntimeError, match=f"{again} batches came again with their result committed, and 1 were to"
        ):
            lakehouse.check_kills(again)
