"""Ray datasets into streams: one epoch, whatever happens to the tasks and to the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.data

import bowstring
from bowstring.ray import StreamDatasink, read_bowstring, write_bowstring

pytestmark = pytest.mark.usefixtures("ray_session")


class Broken(StreamDatasink):
    """Fails or dies after it has staged everything, once per task or always."""

    def __init__(self, *arguments: Any, marks: Path | None, kills: bool = False) -> None:
        super().__init__(*arguments)
        self.marks = marks
        self.kills = kills

    def write(self, blocks: Iterable[Any], ctx: Any) -> bytes | None:
        receipt = super().write(blocks, ctx)
        try:
            if self.marks is not None:
                (self.marks / f"task {ctx.task_idx}").mkdir(parents=True)
        except FileExistsError:
            return receipt
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ConnectionError("the writer's node is gone")


def rows(client: bowstring.Client, stream: str = "numbers") -> list[int]:
    found = client.iterator(stream, subscription=None, follow=False, timeout=60)
    return sorted(one for batch in found for one in batch["id"].to_pylist())


def staged(client: bowstring.Client) -> int:
    """Batches held that nobody can read."""
    described = client.describe_stream("numbers")
    return described["buffered_batches"] - sum(one["buffered_batches"] for one in described["partitions"])


def test_a_dataset_is_one_epoch_from_many_tasks(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=3)
    dataset = ray.data.range(1000, override_num_blocks=7)
    assert write_bowstring(dataset, client.url, "numbers", producer="job", epoch=3) == "committed"
    assert rows(client) == list(range(1000))
    (producer,) = client.describe_stream("numbers")["producers"]
    assert (producer["producer"], producer["committed_epoch"]) == ("job", 3)
    assert read_bowstring(client.url, "numbers", epoch=3).sum("id") == 499_500
    assert staged(client) == 0


def test_a_job_that_is_run_again_changes_nothing_and_computes_nothing(client: bowstring.Client, tmp_path: Path) -> None:
    def counted(batch: pa.Table) -> pa.Table:
        (tmp_path / os.urandom(8).hex()).touch()
        return batch

    dataset = ray.data.range(100, override_num_blocks=4).map_batches(counted, batch_format="pyarrow")
    job = {"producer": "job", "epoch": 1}
    assert write_bowstring(dataset, client.url, "numbers", **job) == "committed"
    calls = len(list(tmp_path.iterdir()))
    assert calls >= 1
    assert write_bowstring(dataset, client.url, "numbers", **job) == "already_committed"
    assert len(list(tmp_path.iterdir())) == calls
    assert rows(client) == list(range(100))
    assert write_bowstring(dataset, client.url, "numbers") == "committed"
    assert write_bowstring(dataset, client.url, "numbers") == "committed"
    assert len(rows(client)) == 300, "nobody has said that it is the same"


@pytest.mark.parametrize("kills", [False, True])
def test_a_task_that_fails_after_writing_is_run_again_and_leaves_nothing(
    client: bowstring.Client, tmp_path: Path, kills: bool
) -> None:
    client.create_stream("numbers", partitions=2)
    sink = Broken(client.url, "numbers", "job", 1, marks=tmp_path / "marks", kills=kills)
    assert sink.open()
    retries = {"retry_exceptions": True, "max_retries": 5}
    ray.data.range(300, override_num_blocks=3).write_datasink(sink, ray_remote_args=retries)
    assert len(list((tmp_path / "marks").iterdir())) == 3, "each task has failed once"
    assert rows(client) == list(range(300))
    assert staged(client) == 0


def test_a_write_that_fails_shows_nothing_and_can_be_made_again(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    sink = Broken(client.url, "numbers", "job", 1, marks=None)
    assert sink.open()
    dataset = ray.data.range(300, override_num_blocks=3)
    with pytest.raises(Exception, match="node is gone"):
        dataset.write_datasink(sink, ray_remote_args={"max_retries": 0})
    assert rows(client) == []
    assert (sink.state, staged(client)) == ("aborted", 0)
    assert write_bowstring(dataset, client.url, "numbers", producer="job", epoch=1) == "committed"
    assert rows(client) == list(range(300))


def test_a_former_run_that_is_still_at_work_is_fenced(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    former = StreamDatasink(client.url, "numbers", "job", 1)
    assert former.open()
    newer = StreamDatasink(client.url, "numbers", "job", 1)
    assert newer.open()
    dataset = ray.data.range(10)
    with pytest.raises(Exception, match=r"(?i)fenced"):
        dataset.write_datasink(former)
    dataset.write_datasink(newer)
    assert rows(client) == list(range(10))


def test_what_a_killed_job_has_staged_goes_with_the_next_write_of_its_producer(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    killed = StreamDatasink(client.url, "numbers", "job", 1)
    assert killed.open()
    writer = client.writer("numbers", producer="job", run=killed.run, epoch=1, task=0, attempt=0)
    writer.append(pa.table({"id": [1, 2, 3]}))
    writer.finish()
    assert staged(client) == 1
    write_bowstring(ray.data.range(10), client.url, "numbers")
    assert staged(client) == 1, "of another producer"
    write_bowstring(ray.data.range(10), client.url, "numbers", producer="job", epoch=1)
    assert staged(client) == 0
    assert len(rows(client)) == 20


def test_an_empty_dataset_is_an_empty_epoch(client: bowstring.Client) -> None:
    dataset = ray.data.range(100).filter(lambda row: row["id"] < 0)
    assert write_bowstring(dataset, client.url, "numbers", producer="job", epoch=1) == "committed"
    assert write_bowstring(dataset, client.url, "numbers", producer="job", epoch=1) == "already_committed"


def test_what_cannot_be_meant_is_refused(client: bowstring.Client) -> None:
    client.create_stream("hasty", visibility="immediate")
    with pytest.raises(bowstring.InvalidArgument, match="immediate"):
        write_bowstring(ray.data.range(1), client.url, "hasty")
    for half in ({"producer": "job"}, {"epoch": 1}):
        with pytest.raises(bowstring.InvalidArgument, match="or neither"):
            write_bowstring(ray.data.range(1), client.url, "numbers", **half)
