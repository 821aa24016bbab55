"""A Spark micro-batch reaches a consumer as one epoch, whole, with Spark's batch id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import bowstring
from bowstring.streaming import foreach_batch_writer

from .conftest import JVM

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def run(frame: DataFrame, client: bowstring.Client, sink: str, checkpoint: str, connector: str) -> str:
    """Runs the query until it has no more; its id."""
    options: dict[str, Any] = {"url": client.url, "stream": "numbers"}
    writer = frame.writeStream.option("checkpointLocation", checkpoint).trigger(availableNow=True)
    if sink == "datasource":
        query = writer.format(connector).options(**options, routing="round_robin").start()
    else:
        options |= {"routing": "round_robin", "use_jvm_sink": connector == JVM}
        query = writer.foreachBatch(foreach_batch_writer(**options)).start()
    query.awaitTermination()
    return str(query.id)


@pytest.mark.parametrize("sink", ["datasource", "foreach_batch"])
def test_each_micro_batch_is_one_epoch_whatever_partitions_its_rows_are_in(
    numbers: Callable[..., DataFrame], client: bowstring.Client, checkpoint: str, sink: str, connector: str
) -> None:
    client.create_stream("numbers", partitions=3)
    subscription = client.subscription("numbers", "audit")
    client.subscribe("numbers", "audit")
    # Two files of 125 rows in each of four micro-batches, and two tasks in each.
    query = run(numbers(rows=1000, files=8, per_trigger=2), client, sink, checkpoint, connector)
    found = {}
    with subscription.epochs(timeout=60) as epochs:
        for epoch in epochs:
            with epoch:
                assert epoch.producer == query
                found[epoch.id] = epoch.to_table()["id"].to_pylist()
            if epoch.id == 3:
                break
    assert [len(ids) for ids in found.values()] == [250] * 4
    assert list(found) == [0, 1, 2, 3]
    assert sorted(one for ids in found.values() for one in ids) == list(range(1000))
    # Started again from its checkpoint there is nothing new, and no epoch comes twice.
    run(numbers(rows=1000, files=8, per_trigger=2), client, sink, checkpoint, connector)
    client.complete_stream("numbers")
    assert list(subscription.epochs()) == []
