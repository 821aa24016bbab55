"""Child processes of a benchmark: servers, and each end a process of its own, as in real use."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.ends import READY
from bench.figures import Figures, figures


class Child:
    """A child that speaks in lines."""

    def __init__(self, command: list[str], cwd: Path | None = None) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd)

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

    def report(self) -> dict[str, Any]:
        """What an end has done, once it is done."""
        return json.loads(self.line())

    def cpu_seconds(self) -> float | None:
        """CPU time of the child so far; none where the system is not Linux."""
        if sys.platform != "linux":
            return None
        return cpu_seconds(self.process.pid)

    def resident_bytes(self) -> int:
        """Memory that the child has now."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """The most memory that the child has had."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(kilobytes) * 1024

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


def carry(server: Child, appending: list[str] | None, *reading: list[str] | None) -> Figures:
    """Runs the ends against the server, at once; all are connected before the time runs."""
    readers = [command for command in reading if command]
    with children(*readers, *([appending] if appending else [])) as ends:
        for end in ends:
            end.expect(READY)
        return carried(server, ends[-1] if appending else None, ends[: len(readers)])


def carried(server: Child, appending: Child | None, reading: Sequence[Child]) -> Figures:
    """What ends that are connected have done, once they are done."""
    ends = [*reading, *([appending] if appending else [])]
    before = server.cpu_seconds()
    for end in ends:
        end.go()
    reports = [end.report() for end in ends]
    after = server.cpu_seconds()
    used = None if before is None or after is None else after - before
    return figures(reports[-1] if appending else None, reports[: len(reading)], server_cpu_seconds=used)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; only on Linux."""
    # The id that clock_getcpuclockid(3) gives; `/proc` counts hundredths, and a short round takes few of them.
    return time.clock_gettime(~pid << 3 | 2)


def python(module: str, *arguments: str) -> list[str]:
    """The command of a module of ours."""
    return [sys.executable, "-m", module, *arguments]
