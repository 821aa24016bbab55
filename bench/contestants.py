"""Who takes part: each does a case once, with processes of its own, and gives figures."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.flight as flight

import bowstring
from bench.cases import Case
from bench.children import Child, carry, children, python
from bench.figures import Figures, of_bench

Contestant = Callable[[Case], Figures]

TARGET = Path(os.environ["CARGO_TARGET_DIR"]) / "release"
SERVER = str(TARGET / "bowstring")
PEERS = str(TARGET / "bowstring-bench")


def raw_tcp(case: Case) -> Figures:
    """The machine's limit: the same bytes, at which nobody looks."""
    return _raw(case, "tcp")


def raw_unix(case: Case) -> Figures:
    """The same through a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        return _raw(case, str(Path(folder) / "raw"))


def _raw(case: Case, listen: str) -> Figures:
    with children([PEERS, "raw-serve", listen]) as (server,):
        what = (server.line(), case.work, str(case.batch_bytes), str(case.batches))
        rate = [] if case.rate is None else ["--rate", str(case.rate)]
        return _carry(case, server, [PEERS, "raw-append", *what, *rate], [PEERS, "raw-read", *what])


def flight_cpp(case: Case) -> Figures:
    """Arrow's C++ Flight through pyarrow, in all processes."""
    with children(python("bench.flight_relay")) as (server,):
        url = server.line()
        ticket, path = "relay", "drop" if case.work == "put" else "relay"
        if case.work == "get":
            ticket = case.json()
            list(flight.connect(url).do_action(flight.Action("make", ticket.encode())))
        return _carry(case, server, _flight("append", url, path, case), _flight("read", url, ticket, case))


def flight_rust(case: Case) -> Figures:
    """arrow-flight's client, encoder, decoder and server as they come."""
    with children([PEERS, "stock-serve"]) as (server,):
        what = [server.line(), case.work, str(case.rows), str(case.batches)]
        rate = [] if case.rate is None else ["--rate", str(case.rate)]
        return _carry(case, server, [PEERS, "stock-append", *what, *rate], [PEERS, "stock-read", *what])


def ours_rust(case: Case) -> Figures:
    """bowstring with its Rust client at both ends, over TCP as the peers."""
    return bench(case, BOWSTRING_UNIX="off")


def ours_unix(case: Case) -> Figures:
    """The same by the Unix socket."""
    return bench(case, BOWSTRING_SHARED_MEMORY="false")


def ours_shared(case: Case) -> Figures:
    """The same by the Unix socket and shared memory, as clients choose by themselves: what `bowstring bench` shows."""
    return bench(case)


def other_rust(case: Case) -> Figures:
    """The same of another build, to compare a change with what was before it."""
    return bench(case, os.environ["BENCH_OTHER"], BOWSTRING_UNIX="off")


def bench(case: Case, command: str = SERVER, **environment: str) -> Figures:
    """`bowstring bench`, with a coordinator of its own that has these settings."""
    options = {
        "batch-bytes": case.batch_bytes,
        "columns": case.columns,
        "partitions": case.partitions,
        "streams": case.streams,
        "consumers": case.consumers,
        "rounds": 1,
    }
    if case.rate is None:
        options["bytes"] = case.batch_bytes * case.batches
    else:
        options |= {"rate": case.rate, "seconds": case.batches / case.rate}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command_line = [command, "bench", case.work, *flags, "--json", "-"]
    done = subprocess.run(command_line, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
    return of_bench(json.loads(done.stdout)["cases"][0]["rounds"][0])


def ours_python(case: Case) -> Figures:
    """bowstring with Python at both ends, over TCP: Producer and StreamingIterator."""
    return _ours_python(case, serve())


def ours_python_shared(case: Case) -> Figures:
    """The same as they choose by themselves: by shared memory."""
    return _ours_python(case, serve(local=True))


def _ours_python(case: Case, coordinator: list[str]) -> Figures:
    with children(coordinator) as (server,):
        url = _prepare(server, case)
        return _carry(case, server, _python("append", url, case), _python("read", url, case))


def ours_flight(case: Case) -> Figures:
    """bowstring with stock pyarrow.flight clients at both ends, over TCP: the same clients as the peer's."""
    with children(serve()) as (server,):
        url = _prepare(server, case)
        reads = {"stream": "bench"}
        if case.work != "get":
            reads |= {"follow": True, "subscription": "bench"}
        return _carry(
            case, server, _flight("append", url, "bench", case), _flight("read", url, json.dumps(reads), case)
        )


RAW_TCP, RAW_UNIX = "raw TCP", "raw Unix socket"
CPP, STOCK = "C++ Flight", "arrow-flight as it comes"
OTHER = "other build, Rust ends"
RUST, PYTHON, PYARROW = "bowstring, Rust ends", "bowstring, Python ends", "bowstring, pyarrow ends"
RUST_UNIX = "bowstring, Rust ends, Unix socket"
RUST_SHARED, PYTHON_SHARED = "bowstring, Rust ends, shared memory", "bowstring, Python ends, shared memory"

CONTESTANTS: dict[str, Contestant] = {
    RAW_TCP: raw_tcp,
    RAW_UNIX: raw_unix,
    CPP: flight_cpp,
    STOCK: flight_rust,
    RUST: ours_rust,
    RUST_UNIX: ours_unix,
    RUST_SHARED: ours_shared,
    PYTHON: ours_python,
    PYTHON_SHARED: ours_python_shared,
    PYARROW: ours_flight,
    OTHER: other_rust,
}


def serve(*, local: bool = False, data_dir: Path | None = None) -> list[str]:
    """The command of a coordinator with its defaults, but for the Unix socket unless `local`: peers go by TCP."""
    command = [SERVER, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"]
    command += ["--data-dir", str(data_dir)] if data_dir else []
    return command if local else [*command, "--unix", "off"]


def listening(server: Child) -> str:
    """The URL of a coordinator that has just been started."""
    return f"grpc://{json.loads(server.line())['listen']}"


def rust_end(end: str, url: str, stream: str, case: Case, *more: str) -> list[str]:
    """The command of an end in Rust, "append" or "read"; the streams are called `stream`-0 and so on."""
    command = [SERVER, "bench-end", end, "--url", url, "--stream", stream, "--streams", str(case.streams)]
    amount = ["--batch-bytes", str(case.batch_bytes), "--batches", str(case.batches // case.streams)]
    return [*command, *amount, *(["--rate", str(case.rate)] if case.rate else []), *more]


def _prepare(server: Child, case: Case) -> str:
    """Creates the stream, with default limits and a subscription that holds batches until they are acked."""
    url = listening(server)
    client = bowstring.connect(url)
    if case.work == "put":
        client.create_stream("bench", full_policy="drop_oldest", max_buffered_batches=case.filled)
    elif case.work == "get":
        client.create_stream("bench", max_buffered_batches=case.prepared, max_buffered_bytes=8 << 30)
        filled = Case("filled", "relay", case.batch_bytes, case.prepared, case.columns)
        carry(server, _python("append", url, filled), None)
    else:
        client.create_stream("bench")
        client.subscribe("bench", "bench")
    return url


def _carry(case: Case, server: Child, appending: list[str], reading: list[str]) -> Figures:
    """The ends that the work has."""
    return carry(server, None if case.work == "get" else appending, None if case.work == "put" else reading)


def _flight(end: str, url: str, target: str, case: Case) -> list[str]:
    return python("bench.flight_ends", end, url, target, case.json())


def _python(end: str, url: str, case: Case) -> list[str]:
    return python("bench.python_ends", end, url, "bench", case.json())
