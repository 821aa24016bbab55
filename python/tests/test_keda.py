"""What deploy/keda asks for is what /metrics says, and its worker leaves as a pod is to leave."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import bowstring

from .support import Child, get, ids, numbered, wait_until

KEDA = Path(__file__).parents[2] / "deploy" / "keda"


def triggers(name: str) -> list[dict[str, Any]]:
    found = yaml.safe_load((KEDA / name).read_text())
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    return found["spec"]["triggers"]


def selected(metrics: str, selector: str) -> list[float]:
    """The values of the series that a selector of exact labels selects."""
    name, labels = re.fullmatch(r"(\w+)\{(.*)\}", selector).groups()
    wanted = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    found = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", metrics, re.MULTILINE)
    return [
        float(value) for text, value in found if wanted.items() <= dict(re.findall(r'(\w+)="([^"]*)"', text)).items()
    ]


@pytest.fixture
def metrics(coordinator: bowstring.StreamCoordinator) -> str:
    client = coordinator.client()
    client.create_stream("clicks", partitions=2)
    client.subscribe("clicks", "trainer", mode="shared")
    client.subscribe("clicks", "other", "latest")
    client.create_stream("others")
    client.subscribe("others", "trainer")
    with client.producer("clicks") as producer:
        for number in range(7):
            producer.append(numbered(number), partition=number % 2)
    with client.producer("others") as producer:
        producer.append(numbered(0))
    client.ack("clicks", "other", {0: 2})
    assert coordinator.http_url is not None
    return get(f"{coordinator.http_url}/metrics")


def test_the_query_is_the_lag_of_the_subscription(metrics: str) -> None:
    (trigger,) = triggers("scaledobject.yaml")
    assert trigger["type"] == "prometheus"
    selector = re.fullmatch(r"sum\((.*)\)", trigger["metadata"]["query"])[1]
    values = selected(metrics, selector)
    assert values == [4, 3]
    assert math.ceil(sum(values) / float(trigger["metadata"]["threshold"])) == 2


def test_without_prometheus_each_value_is_one_series_and_the_formula_their_sum(metrics: str) -> None:
    found = triggers("scaledobject-direct.yaml")
    values = {}
    for trigger in found:
        assert (trigger["type"], trigger["metadata"]["format"]) == ("metrics-api", "prometheus")
        (values[trigger["name"]],) = selected(metrics, trigger["metadata"]["valueLocation"])
    assert values == {"p0": 4, "p1": 3}
    modifiers = yaml.safe_load((KEDA / "scaledobject-direct.yaml").read_text())["spec"]["advanced"]["scalingModifiers"]
    assert modifiers["formula"] == " + ".join(values)


def test_a_worker_that_is_to_end_finishes_its_batch_and_the_next_goes_on(
    client: bowstring.Client, start_python: Callable[..., Child]
) -> None:
    client.create_stream("clicks", partitions=2, max_buffered_batches=1000)
    client.create_stream("done", max_buffered_batches=1000)
    client.subscribe("clicks", "trainer", mode="shared")
    worker = str(KEDA / "worker.py")
    arguments = (client.url, "clicks", "trainer", "done")
    pod = start_python(worker, *arguments)
    with client.producer("clicks") as producer:
        for number in range(20):
            producer.append(numbered(number * 10))
    wait_until(lambda: client.lag("clicks")["trainer"].total.batches == 0)
    pod.process.terminate()
    assert pod.line() == "20 batches, stopped"
    assert pod.process.wait(30) == 0
    with client.producer("clicks") as producer:
        producer.append(numbered(200))
        producer.complete()
    assert start_python(worker, *arguments).line() == "1 batches, the stream has ended"
    assert sorted(ids(client.iterator("done", subscription=None, follow=False, timeout=60))) == list(range(210))
