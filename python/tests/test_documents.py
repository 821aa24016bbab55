"""The documents' examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bowstring

ROOT = Path(__file__).parents[2]


def blocks(document: str) -> list[str]:
    """The document's Python examples, padded so that a traceback shows the document's own line."""
    text = (ROOT / document).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: match.start(1)].count("\n") + match.group(1) for match in found]


def run(document: str, replace: tuple[str, str] | None = None) -> dict[str, object]:
    """Runs a document's examples in order; later ones use what earlier ones left."""
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(document):
        code = block.replace(*replace) if replace else block
        exec(compile(code, str(ROOT / document), "exec"), names)
    return names


@pytest.mark.timeout(60)
def test_the_examples_for_stock_flight_clients_run(capsys: pytest.CaptureFixture[str]) -> None:
    with bowstring.StreamCoordinator() as coordinator:
        run("docs/flight.md", ("grpc://127.0.0.1:8815", coordinator.url))
        described = coordinator.client().describe_stream("clicks")
    assert described["state"] == "completed"
    # Two batches by path, one by command, one in an epoch.
    assert sum(partition["end"] for partition in described["partitions"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "True", "the error's code is in its text"


@pytest.mark.timeout(180)
def test_the_examples_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    out = capsys.readouterr().out
    assert "|   10000|49995000|" in out, "to_spark_streaming delivered every row once"
