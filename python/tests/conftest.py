"""A coordinator per test, its clients, and child processes that do not outlive the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.flight as flight
import pytest

import bowstring

from .support import CHILDREN, Child, Served, server, starter

# Spark looks for "python3" otherwise, which need not be the one that has bowstring.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


@pytest.fixture
def coordinator() -> Iterator[bowstring.StreamCoordinator]:
    with bowstring.StreamCoordinator() as running:
        yield running


@pytest.fixture
def client(coordinator: bowstring.StreamCoordinator) -> bowstring.Client:
    return coordinator.client()


@pytest.fixture(params=["url", "unix_url"])
def stock(coordinator: bowstring.StreamCoordinator, request: pytest.FixtureRequest) -> Iterator[flight.FlightClient]:
    """A Flight client that knows nothing of bowstring, by TCP and by the Unix socket."""
    with flight.connect(getattr(coordinator, request.param)) as connected:
        yield connected


@pytest.fixture
def start_python() -> Iterator[Callable[..., Child]]:
    """Starts this Python with these arguments."""
    with ExitStack() as running:
        yield starter(running)


@pytest.fixture
def start_child(start_python: Callable[..., Child]) -> Callable[..., Child]:
    """Starts a program of children.py."""
    return lambda *arguments: start_python(str(CHILDREN), *map(str, arguments))


@pytest.fixture
def serve(start_python: Callable[..., Child]) -> Callable[..., Served]:
    """Starts `bowstring serve` on free ports, or on those that the arguments name."""
    return server(start_python)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate that is its own CA, for 127.0.0.1 and localhost, and its key."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=bowstring", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)
