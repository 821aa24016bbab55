"""Child processes of a benchmark: each end of a relay is a process of its own, as in real use."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

READY = "ready"
DONE = "done"


class Child:
    """A child that speaks in lines: it says READY, waits for one line, works, and says DONE."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """The child's next line."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.wait()} and said nothing more")
        return line.strip()

    def expect(self, line: str) -> None:
        """Waits for a line that the child must say next."""
        said = self.line()
        if said != line:
            raise RuntimeError(f"{' '.join(self.command)} said {said!r} instead of {line!r}")

    def go(self) -> None:
        """Lets the child begin."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """Ends the child; a no-op if it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@contextmanager
def children(*commands: list[str]) -> Iterator[list[Child]]:
    """Children that end with the block."""
    with ExitStack() as stack:
        started = []
        for command in commands:
            child = Child(command)
            stack.callback(child.stop)
            started.append(child)
        yield started


def carry(consumer: list[str], producer: list[str]) -> float:
    """Seconds from the word to begin until the consumer has everything; both ends are connected before it."""
    with children(consumer, producer) as (reading, appending):
        reading.expect(READY)
        appending.expect(READY)
        begun = time.perf_counter()
        reading.go()
        appending.go()
        reading.expect(DONE)
        seconds = time.perf_counter() - begun
        appending.expect(DONE)
        return seconds


def python(module: str, *arguments: str) -> list[str]:
    """The command of a module of ours."""
    return [sys.executable, "-m", module, *arguments]


def wait_for_go() -> None:
    """The child's side of `Child.go`."""
    print(READY, flush=True)
    sys.stdin.readline()


def say_done() -> None:
    """The child's last word."""
    print(DONE, flush=True)
