"""The examples of docs/ray.md on workers, pools and datasets run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
import ray.data

import bowstring

from ..support import ids, numbered

pytestmark = pytest.mark.usefixtures("ray_session")

TEXT = (Path(__file__).parents[3] / "docs" / "ray.md").read_text()


def example(heading: str) -> str:
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code


def fill(client: bowstring.Client, stream: str) -> None:
    with client.producer(stream) as producer:
        for number in range(10):
            producer.append(numbered(number * 10))


def rows(client: bowstring.Client, stream: str) -> list[int]:
    return sorted(ids(client.iterator(stream, subscription=None, follow=False, timeout=60)))


def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


class Model:
    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch


def test_the_worker(client: bowstring.Client) -> None:
    fill(client, "clicks")
    client.complete_stream("clicks")
    exec(example("Work whose output is exactly once"), {"bowstring": bowstring, "url": client.url, "score": same})
    assert rows(client, "scores") == list(range(100))


def test_the_pool(client: bowstring.Client) -> None:
    fill(client, "images")
    client.complete_stream("images")
    # Not every machine has one.
    code = example("ConsumerPool").replace("num_gpus=1", "num_cpus=1")
    assert "num_cpus" in code
    exec(code, {"url": client.url, "Model": Model})
    assert rows(client, "labels") == list(range(100))


def test_the_datasets(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", max_buffered_batches=1000)
    client.open_epoch("clicks", "job", "run", 7)
    writer = client.writer("clicks", producer="job", run="run", epoch=7, task=0, attempt=0)
    for number in range(250):
        writer.append(numbered(number * 10))
    client.commit_epoch("clicks", "job", "run", 7, [writer.finish()])
    code = example("Streams as datasets").replace('write_parquet("clicks")', f'write_parquet("{tmp_path}")')
    assert str(tmp_path) in code
    exec(code, {"url": client.url})
    assert ray.data.read_parquet(str(tmp_path)).count() == 2500
    assert client.lag("clicks")["nightly"].total.batches == 0


def test_the_write(client: bowstring.Client) -> None:
    exec(example("Datasets into streams"), {"url": client.url, "dataset": ray.data.from_arrow(pa.table({"id": [1]}))})
    (producer,) = client.describe_stream("scores")["producers"]
    assert producer["committed_epoch"] == 20261122
