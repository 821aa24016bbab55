"""Durable streams that are in an object store as well: another coordinator, on another disk, goes on with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bowstring

from .support import Served, get, ids, numbered


def fill(client: bowstring.Client, numbers: range) -> None:
    with client.producer("s") as producer:
        for number in numbers:
            producer.append(numbered(10 * number))


def read(client: bowstring.Client) -> list[int]:
    return ids(client.iterator("s", subscription=None, follow=False))


def test_a_coordinator_on_another_disk_finds_what_a_killed_one_confirmed(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    url = (tmp_path / "objects").as_uri()
    served = serve("--data-dir", str(tmp_path / "one"), "--object-store", url)
    fill(bowstring.connect(served.url), range(30))
    served.child.kill()
    with bowstring.StreamCoordinator(data_dir=str(tmp_path / "two"), object_store=url) as coordinator:
        client = coordinator.client()
        assert read(client) == list(range(300))
        fill(client, range(30, 40))
        assert json.loads(get(f"{coordinator.http_url}/healthz"))["storage"] == "object_store"


def test_the_one_before_is_fenced_and_says_so(tmp_path: Path) -> None:
    url = (tmp_path / "objects").as_uri()
    with bowstring.StreamCoordinator(data_dir=str(tmp_path / "one"), object_store=url) as former:
        fill(former.client(), range(3))
        with bowstring.StreamCoordinator(data_dir=str(tmp_path / "two"), object_store=url) as latter:
            client = bowstring.connect(former.url, retry_deadline=1.0)
            with pytest.raises(bowstring.BowstringError, match="has taken over"):
                fill(client, range(3, 4))
            assert "has taken over" in former.client().describe_stream("s")["log_waits_for"]
            assert read(latter.client()) == list(range(30))


def test_an_object_store_needs_a_data_directory(tmp_path: Path) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="needs a data_dir"):
        bowstring.StreamCoordinator(object_store=tmp_path.as_uri())
