"""Tokens in Python: where they come from, that they are renewed while streams run, and what never carries them."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

import bowstring
from bowstring.spread import SpreadClient

from .support import Served, Tokens, wait_until

RENEWED = ["first", "second", "third", "fourth"]
ROWS = pa.record_batch({"n": [1, 2, 3]})


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


@pytest.fixture
def guarded(serve: Callable[..., Served], tokens: Tokens) -> str:
    """The URL of a coordinator that asks who calls, and knows these."""
    tokens.issue("operator", "admin:*")
    tokens.issue("source", "append:s")
    tokens.issue("worker", "read:s")
    for name in RENEWED:
        tokens.issue(name, "append:s", "read:s")
    return serve("--auth-tokens", str(tokens.path)).url


def test_a_token_is_a_text_a_file_or_a_function_for_every_client(guarded: str, tokens: Tokens) -> None:
    file = tokens.file_of("operator")
    token = file.read_text().strip()
    asked = []

    def newest() -> str:
        asked.append(threading.get_ident())
        return token

    for given in ({"token": token}, {"token": newest}, {"token_file": str(file)}):
        client = bowstring.connect(guarded, **given)
        stream = f"s{len(client.list_streams())}"
        client.create_stream(stream)
        for subscription in ("own", "default", "spread"):
            client.subscribe(stream, subscription)
        with client.producer(stream) as producer:
            producer.append(ROWS)
            producer.complete()
        with bowstring.StreamingIterator(guarded, stream, subscription="own", **given) as own:
            assert [batch.num_rows for batch in own] == [3]
        assert [batch.num_rows for batch in client.iterator(stream)] == [3]
        with SpreadClient([guarded], **given).iterator(stream, subscription="spread") as spread:
            assert [batch.num_rows for batch in spread] == [3]
    assert asked


def test_who_is_not_known_and_what_is_not_allowed_is_refused(guarded: str, tokens: Tokens) -> None:
    with pytest.raises(bowstring.Unauthenticated, match="token"):
        bowstring.connect(guarded).list_streams()
    with pytest.raises(bowstring.Unauthenticated):
        bowstring.connect(guarded, token="bst_" + "0" * 64).list_streams()
    reader = bowstring.connect(guarded, token_file=str(tokens.file_of("worker")))
    with pytest.raises(bowstring.PermissionDenied, match="append:s"):
        reader.create_stream("s")
    for given, reason in (
        ({"token": "a", "token_file": "b"}, "both"),
        ({"token_file": "/nowhere/token"}, "cannot be read"),
        ({"token": lambda: 1}, "gave no str"),
        ({"token": lambda: 1 / 0}, "raised ZeroDivisionError"),
    ):
        with pytest.raises(bowstring.InvalidArgument, match=reason):
            bowstring.connect(guarded, **given).list_streams()  # type: ignore[arg-type]


def until_refused(url: str, token: str) -> None:
    """The coordinator looks at its file every second."""

    def is_refused() -> bool:
        try:
            bowstring.connect(url, token=token).list_streams()
        except bowstring.Unauthenticated:
            return True
        return False

    wait_until(is_refused)


def test_a_renewed_token_goes_on_with_open_streams(guarded: str, tokens: Tokens) -> None:
    operator = bowstring.connect(guarded, token_file=str(tokens.file_of("operator")))
    operator.create_stream("s")
    file = tokens.file_of(RENEWED[0])
    newest = [file.read_text().strip()]
    with (
        bowstring.connect(guarded, token_file=str(file)).producer("s") as producer,
        bowstring.connect(guarded, token=lambda: newest[-1]).iterator("s") as iterator,
    ):
        for old, new in pairwise(RENEWED):
            producer.append(ROWS)
            assert next(iterator).num_rows == 3
            fresh = tokens.file_of(new).read_text()
            file.write_text(fresh)
            newest.append(fresh.strip())
            tokens.revoke(old)
            until_refused(guarded, newest[-2])
        producer.append(ROWS)
        assert next(iterator).num_rows == 3


def test_what_travels_has_the_path_of_a_file_and_never_a_token(guarded: str, tokens: Tokens) -> None:
    file = tokens.file_of("operator")
    token = file.read_text().strip()
    client = bowstring.connect(guarded, token_file=str(file))
    client.create_stream("s")
    spread = SpreadClient([guarded], token_file=str(file))
    for one in (client, client.iterator("s"), spread):
        pickled = pickle.dumps(one)
        assert token.encode() not in pickled
        assert str(file).encode() in pickled
    assert pickle.loads(pickle.dumps(client)).describe_stream("s")["stream"] == "s"
    assert pickle.loads(pickle.dumps(client.iterator("s"))).partitions == [0]
    for given in (token, lambda: token):
        client = bowstring.connect(guarded, token=given)
        for one in (client, client.iterator("s"), SpreadClient([guarded], token=given)):
            with pytest.raises(bowstring.InvalidArgument, match="token_file=") as raised:
                pickle.dumps(one)
            assert token not in f"{raised.value} {one!r} {client!r}"


def test_the_least_permissions_let_a_worker_share_move_and_leave_dead_letters(guarded: str, tokens: Tokens) -> None:
    operator = bowstring.connect(guarded, token_file=str(tokens.file_of("operator")))
    with bowstring.connect(guarded, token_file=str(tokens.file_of("source"))).producer("s") as producer:
        for _ in range(3):
            producer.append(ROWS)
        producer.complete()
    worker = bowstring.connect(guarded, token_file=str(tokens.file_of("worker")))
    worker.subscribe("s", "again")
    sharing = bowstring.Sharing(max_deliveries=1)
    ways = {"subscription": "work", "mode": "shared", "sharing": sharing}
    with worker.iterator("s", auto_ack=False, **ways) as iterator:
        handles = iterator.handles()
        next(handles).nack(reason="no such page")
        for handle in handles:
            handle.ack()
    dead = operator.describe_stream("s.dead-letters")
    assert [one["end"] for one in dead["partitions"]] == [1]
    with pytest.raises(bowstring.PermissionDenied):
        list(worker.read("s.dead-letters", 0, 0, 1))
    assert worker.seek("s", "again", {0: 2}).partitions[0].after == 2
    with worker.iterator("s", subscription="again") as iterator:
        assert [batch.num_rows for batch in iterator] == [3]
    worker.unsubscribe("s", "again")
    with pytest.raises(bowstring.PermissionDenied, match="admin:s"):
        worker.delete_stream("s")
