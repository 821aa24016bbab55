"""The relays that a round compares: the same batches from a producer process through a relay to a consumer process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import bowstring
from bench.children import carry, children, python
from bench.load import Load

Relay = Callable[[Load], float]

TARGET = Path(os.environ["CARGO_TARGET_DIR"]) / "release"
SERVER = str(TARGET / "bowstring")
ENDS = str(TARGET / "bowstring-bench")


def raw_tcp(load: Load) -> float:
    """The machine's limit: the same bytes through a relay that looks at none of them."""
    with children([ENDS, "tcp-relay"]) as (relay,):
        address = relay.line()
        size = (str(load.batch_bytes), str(load.batches))
        return carry([ENDS, "tcp-read", address, *size], [ENDS, "tcp-append", address, *size])


def flight_cpp(load: Load) -> float:
    """Arrow's C++ Flight through pyarrow, in all three processes."""
    with children(python("bench.flight_relay")) as (relay,):
        url = relay.line()
        return carry(_flight_ends("read", url, "any", load), _flight_ends("append", url, "bench", load))


def ours_rust(load: Load) -> float:
    """bowstring with its Rust client at both ends, over TCP as the peers."""
    return _rust_ends(load, "--unix", "off")


def ours_unix(load: Load) -> float:
    """The same by the Unix socket, as the clients choose by themselves."""
    return _rust_ends(load)


def ours_python(load: Load) -> float:
    """bowstring with Python at both ends, over TCP: Producer and StreamingIterator."""
    with children(serve("--unix", "off")) as (server,):
        url = _prepare(server.line())
        size = (str(load.rows), str(load.batches))
        return carry(
            python("bench.python_ends", "read", url, "bench", *size),
            python("bench.python_ends", "append", url, "bench", *size),
        )


def ours_flight(load: Load) -> float:
    """bowstring with stock pyarrow.flight clients at both ends: the same clients as the peer's."""
    with children(serve()) as (server,):
        url = _prepare(server.line())
        ticket = json.dumps({"stream": "bench", "follow": True, "subscription": "bench"})
        return carry(_flight_ends("read", url, ticket, load), _flight_ends("append", url, "bench", load))


RELAYS: dict[str, Relay] = {
    "raw TCP": raw_tcp,
    "C++ Flight, pyarrow ends": flight_cpp,
    "bowstring, Rust ends": ours_rust,
    "bowstring, Rust ends, Unix socket": ours_unix,
    "bowstring, Python ends": ours_python,
    "bowstring, pyarrow ends": ours_flight,
}


def serve(*settings: str) -> list[str]:
    """The command of a coordinator with its defaults but for these settings."""
    return [SERVER, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *settings]


def _rust_ends(load: Load, *settings: str) -> float:
    with children(serve(*settings)) as (server,):
        url = _prepare(server.line())
        size = (str(load.rows), str(load.batches))
        return carry([ENDS, "read", url, "bench", *size], [ENDS, "append", url, "bench", *size])


def _prepare(line: str) -> str:
    """Creates the stream with the limits it has by default; the subscription holds batches until they are acked."""
    url = f"grpc://{json.loads(line)['listen']}"
    client = bowstring.connect(url)
    client.create_stream("bench")
    client.subscribe("bench", "bench")
    return url


def _flight_ends(end: str, url: str, target: str, load: Load) -> list[str]:
    return python("bench.flight_ends", end, url, target, str(load.rows), str(load.batches))
