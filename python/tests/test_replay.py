"""A new subscription goes through a producer's epochs again, from one of them on, while retention holds them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

import bowstring
from bowstring.starts import Start


@pytest.fixture
def client() -> Iterator[bowstring.Client]:
    with bowstring.StreamCoordinator(http=None) as coordinator:
        yield coordinator.client()


def commit(client: bowstring.Client, epoch: int) -> None:
    """An epoch of three batches, two in partition 0 and one in partition 1, whose only value is its number."""
    writer = client.writer("s", producer="spark", run="r", epoch=epoch, task=0, attempt=0)
    for partition in (0, 1, 0):
        writer.append(pa.table({"epoch": [epoch]}), partition=partition)
    receipt = writer.finish()
    assert receipt is not None
    assert client.commit_epoch("s", "spark", "r", epoch, [receipt]) == "committed"


def work(client: bowstring.Client) -> None:
    """Reads and acks all there is, as the subscription that has the epochs first."""
    with client.iterator("s", subscription="first", follow=False) as batches:
        for _ in batches:
            pass
        batches.ack()
        batches.flush()


def replayed(client: bowstring.Client, name: str, start: Start) -> list[tuple[int, list[int]]]:
    """The epochs that a new subscription gets, and the value of each of their batches."""
    client.subscribe("s", name, start)
    epochs = []
    with client.subscription("s", name).epochs(auto_ack=False, follow=False) as all_epochs:
        for epoch in all_epochs:
            assert epoch.producer == "spark"
            epochs.append((epoch.id, [batch["epoch"][0].as_py() for batch in epoch]))
    return epochs


def whole(epochs: range) -> list[tuple[int, list[int]]]:
    return [(epoch, [epoch] * 3) for epoch in epochs]


def test_a_new_subscription_gets_exactly_the_epochs_from_its_start_on_though_all_are_acked(
    client: bowstring.Client,
) -> None:
    client.create_stream("s", partitions=2, retain_seconds=3600)
    for epoch in range(5):
        commit(client, epoch)
    work(client)
    for start in range(6):
        assert replayed(client, f"from {start}", bowstring.Epoch(start, "spark")) == whole(range(start, 5))
    assert replayed(client, "text", "epoch:3@spark") == whole(range(3, 5))
    # Within a partition as well as over all of them.
    with client.iterator("s", subscription="from 2", partitions=[0], follow=False) as batches:
        assert [batch["epoch"][0].as_py() for batch in batches] == [2, 2, 3, 3, 4, 4]


def test_an_epoch_that_retention_has_dropped_is_refused_with_what_was_asked_and_what_is_left(
    client: bowstring.Client,
) -> None:
    client.create_stream("s", partitions=2)
    commit(client, 0)
    epoch_bytes = client.describe_stream("s")["buffered_bytes"]
    client.delete_stream("s")

    # Of six epochs the last two are kept: a batch goes while as many bytes stay without it.
    client.create_stream("s", partitions=2, retain_bytes=epoch_bytes * 11 // 6)
    for epoch in range(6):
        commit(client, epoch)
        work(client)
    for asked in (0, 3):
        with pytest.raises(bowstring.OffsetError) as gone:
            client.subscribe("s", "refused", bowstring.Epoch(asked, "spark"))
        assert gone.value.code == "offset_gone"
        assert not gone.value.retryable
        said = [
            "start at earliest",
            f"since epoch {asked} of producer spark",
            "of epoch 3 some are gone",
            "before offset",
        ]
        assert all(part in str(gone.value) for part in said), gone.value
    assert replayed(client, "what is left", bowstring.Epoch(4, "spark")) == whole(range(4, 6))
    assert replayed(client, "with the gap", "earliest") == whole(range(4, 6))
