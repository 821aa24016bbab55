"""deploy/grafana: every query of every panel returns data from a real Prometheus that scrapes a coordinator at work."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bowstring

from ..support import Served, numbered, wait_until
from .prometheus import DEPLOY, RANGE, Prometheus
from .states import Sick, failing

BOARD = json.loads((DEPLOY / "grafana" / "bowstring.json").read_text())
METRICS = (DEPLOY.parent / "docs" / "metrics.md").read_text()


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Each query with its panel's title, as Grafana asks it when all is selected."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", RANGE).replace("$job", "bowstring")
            yield panel["title"], re.sub(r'=~"\$(instance|stream|subscription)"', '=~".*"', expression)


def documented() -> set[str]:
    """The metrics of docs/metrics.md, which a test holds to the code; a histogram as its series."""
    found = set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", METRICS, re.MULTILINE):
        found |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


@pytest.mark.timeout(120)
def test_every_query_of_every_panel_returns_data(
    serve: Callable[..., Served], certificate: tuple[str, str], tmp_path: Path
) -> None:
    served = serve("--data-dir", str(tmp_path / "data"))
    cert, key = certificate
    secure = serve("--tls-cert", cert, "--tls-key", key, "--audit-file", str(tmp_path / "audit"))
    client = bowstring.connect(served.url)
    sick = Sick(memory=client, spool_less=client, disk=client, full=client)
    prometheus = Prometheus(tmp_path, "groups: []", [served.http_address], [secure.http_address])
    try:
        client.create_stream("clicks", partitions=2)
        producer, iterator = client.producer("clicks"), client.iterator("clicks", subscription="reader", timeout=30)
        sick.held += [producer, iterator]
        sick.again_and_again(lambda number: (producer.append(numbered(number)), next(iterator)), 0.05)
        failing(sick, "shared")
        wait_until(lambda: prometheus.value("min(min_over_time(up[3s]))") == 1 and rows(prometheus) > 0)
        empty, deadline = set(queries()), time.monotonic() + 30
        while empty and time.monotonic() < deadline:
            empty = {one for one in empty if not has_data(prometheus, one[1])}
        assert not empty, "these return no data"
    finally:
        sick.end()
        prometheus.end()


def rows(prometheus: Prometheus) -> float:
    return prometheus.value(f"sum(rate(bowstring_delivered_rows_total[{RANGE}]))") or 0.0


def has_data(prometheus: Prometheus, expression: str) -> bool:
    found = prometheus.query(expression)
    return any(math.isfinite(float(one["value"][1])) for one in found)


def test_every_metric_is_on_the_board_and_nothing_else() -> None:
    used = {name for _, query in queries() for name in re.findall(r"\b(?:bowstring|process)_\w+", query)}
    assert used == documented()


def test_a_panel_has_a_unit_and_a_meaning_and_lies_on_no_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        here = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not here & taken, panel["title"]
        assert all(x < 24 for x, _ in here), panel["title"]
        taken |= here
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_the_board_names_no_data_source_of_ours() -> None:
    sources = {json.dumps(one) for one in re.findall(r'"uid": "([^"]*)"', json.dumps(BOARD))}
    assert sources == {'"${datasource}"', '"bowstring"'}
    variables = {variable["name"] for variable in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval", "__all"}
    assert used == variables
