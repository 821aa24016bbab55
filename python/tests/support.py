"""What the tests share: batches that tell where they are from, conditions to wait for, child processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Queue
from threading import Thread

import pyarrow as pa

CHILDREN = Path(__file__).parent / "children.py"


def numbered(first: int, rows: int = 10) -> pa.RecordBatch:
    """Rows first, first + 1, ... with a text that can be derived from the number."""
    ids = range(first, first + rows)
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "text": [f"row {one}" for one in ids]})


def filler(size: int) -> pa.RecordBatch:
    """One row of so many bytes, made without a copy."""
    offsets = pa.array([0, size], pa.int64()).buffers()[1]
    row = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(bytes(size))])
    return pa.record_batch([row], names=["data"])


def ids(batches: Iterable[pa.RecordBatch]) -> list[int]:
    """The ids of all rows, in order; the texts are checked on the way."""
    found: list[int] = []
    for batch in batches:
        here = batch["id"].to_pylist()
        assert batch["text"].to_pylist() == [f"row {one}" for one in here]
        found += here
    return found


#: Seconds within which "at once" and "within a second" have come true on a machine that others use too. What would
#: break such a promise waits for a keep-alive, a retry or a deadline of 20 seconds and more, or for ever.
PROMPT = 8.0


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Until the condition holds, looked at every 20 ms; fails when the time is up."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Child:
    """A process of this Python, or of another program, whose lines of output can be waited for."""

    def __init__(self, *arguments: str, program: str | None = None) -> None:
        self.process = subprocess.Popen(
            [program or sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._lines: Queue[str | None] = Queue()
        self.errors: list[str] = []
        self._readers = [Thread(target=self._read_lines, daemon=True), Thread(target=self._read_errors, daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr)

    def line(self, timeout: float = 30.0) -> str:
        """The next line of its output."""
        line = self._lines.get(timeout=timeout)
        assert line is not None, f"it ended: {''.join(self.errors)}"
        return line

    def said(self) -> list[int]:
        """The numbers that it has written since; a line each."""
        return [int(self._lines.get()) for _ in range(self._lines.qsize())]

    def lines_left(self) -> list[str]:
        """Once it has ended: what it wrote and nobody has read."""
        self.process.wait(30)
        for reader in self._readers:
            reader.join()
        return [line for line in iter(self._lines.get, None) if line is not None]

    def say(self, text: str) -> None:
        """A line on its standard input."""
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Ends it with SIGKILL: nothing of it can clean up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        """Whatever state it is in: it is gone afterwards."""
        if self.process.poll() is None:
            self.kill()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                pipe.close()


class Served:
    """`bowstring serve` as a process of its own."""

    def __init__(self, child: Child) -> None:
        self.child = child
        addresses = json.loads(child.line())
        self.address: str = addresses["listen"]
        self.url = f"grpc://{self.address}"
        self.http_address: str = addresses["http"]
        self.http_url = f"http://{self.http_address}"


def starter(running: ExitStack) -> Callable[..., Child]:
    """A function that starts this Python with its arguments, for as long as `running` lasts."""

    def start(*arguments: str) -> Child:
        child = Child(*arguments)
        running.callback(child.end)
        return child

    return start


def server(start_python: Callable[..., Child]) -> Callable[..., Served]:
    """A function that starts `bowstring serve` on free ports, or on those that its arguments name."""

    def start(*arguments: str) -> Served:
        ports = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
        return Served(start_python("-m", "bowstring", "serve", "--http", "127.0.0.1:0", *ports, *arguments))

    return start


class Tokens:
    """A file of tokens, as `bowstring token issue` writes it, and each principal's token in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "tokens.json"

    def issue(self, name: str, *permissions: str) -> Path:
        """Makes a token and returns its file."""
        allow = [word for one in permissions for word in ("--allow", one)]
        self.file_of(name).write_text(self._run("issue", name, *allow))
        return self.file_of(name)

    def revoke(self, name: str) -> None:
        self._run("revoke", name)

    def file_of(self, name: str) -> Path:
        return self._folder / f"{name}.token"

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "bowstring", "token", *arguments, "--tokens", str(self.path)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def get(url: str) -> str:
    """The body of an answer over HTTP."""
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.status == 200
        return response.read().decode()


def metric(text: str, name: str, **labels: str) -> float:
    """The value of the one series of that name with these labels; 0 if there is none."""
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match is None:
            continue
        found = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
        if labels.items() <= found.items():
            return float(match[2])
    return 0.0
