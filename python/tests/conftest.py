"""A coordinator per test, its clients, and child processes that do not outlive the test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

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
