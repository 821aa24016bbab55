"""Which attempts of a task count, whatever comes when: seen without Spark, which would not let them meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import javas
from .test_forward import ids

if TYPE_CHECKING:
    import bowstring


def test_of_all_attempts_those_count_that_a_commit_names_and_no_other(
    client: bowstring.Client, java_classes: str
) -> None:
    became = dict(line.split(": ") for line in javas.run(java_classes, "Attempts", client.url))
    print(became)
    assert became["late"] == "nothing to commit"
    assert became["orphan"] == became["too late"] == "epoch_not_open"
    assert became["zombie"] == became["zombie's driver"] == "fenced"
    client.complete_stream("s")
    assert ids(client.iterator("s")) == [20, 21, 22, 30, 31, 32, 80, 81, 82]
    assert client.describe_stream("s")["buffered_batches"] == 0
