"""What the JVM connector takes it gives back, over 10,000 micro-batches; its library outlives who loaded it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import javas

if TYPE_CHECKING:
    import bowstring

EPOCHS = 10_000
#: What the process may have grown by after its first 2,000 micro-batches: what the JVM itself still compiles.
GROWTH_BYTES = 8 << 20


@pytest.mark.timeout(600)
def test_ten_thousand_micro_batches_leave_nothing_behind(client: bowstring.Client, java_classes: str) -> None:
    told = [
        json.loads(line)
        for line in javas.run(java_classes, "ManyBatches", client.url, str(EPOCHS), "2000", timeout=500)
    ]
    print(*told, sep="\n")
    assert [one["epochs"] for one in told] == list(range(2000, EPOCHS + 1, 2000))
    assert {(one["batches"], one["arrow"]) for one in told} == {(0, 0)}
    assert told[-1]["resident"] - told[0]["resident"] < GROWTH_BYTES
    found = client.describe_stream("many")
    assert found["epochs_committed"] == EPOCHS
    assert found["buffered_batches"] == 0


def test_one_batch_that_is_not_let_go_is_seen(client: bowstring.Client, java_classes: str) -> None:
    (told,) = map(json.loads, javas.run(java_classes, "ManyBatches", client.url, "100", "100", "leak"))
    assert told["batches"] == 1
    assert told["arrow"] > 0


def test_the_library_outlives_the_thread_that_has_loaded_it(java_classes: str) -> None:
    assert javas.run(java_classes, "ThreadAfterThread") == ["all have ended"]
