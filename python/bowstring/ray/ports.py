"""The port that a coordinator listens on, the same one after a restart."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

from bowstring.errors import InvalidArgument

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Ray's workers listen below.
_FIRST = 20_000
#: Seconds for which the port of before is waited for: whoever had it may just be ending.
_WAIT = 5.0
_TRIES = 50


def is_free(host: str, port: int) -> bool:
    """Whether somebody could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((host, port))
        except OSError:
            return False
    return True


def candidates(host: str, remembered: int | None) -> list[int]:
    """Ports to try, the remembered one first if it is free within some seconds.

    None of those that the system gives to connections: while a coordinator is away its clients try to connect, and one
    of them could be given the very port, or be connected to itself.
    """
    found = []
    if remembered is not None:
        deadline = time.monotonic() + _WAIT
        while not (free := is_free(host, remembered)) and time.monotonic() < deadline:
            time.sleep(0.05)
        found += [remembered] if free else []
    drawn = random.SystemRandom().sample(range(_FIRST, _end()), _TRIES)
    return found + [port for port in drawn if is_free(host, port)]


def _end() -> int:
    """Where the ports begin that the system gives to connections."""
    try:
        first = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first >= _FIRST + 2 * _TRIES else 65_536


def recall(file: Path | None) -> int | None:
    """The port in the file, if there is one."""
    try:
        return None if file is None else int(file.read_text())
    except (OSError, ValueError):
        return None


def remember(file: Path | None, port: int) -> None:
    """Writes it down for the next start. Raises `InvalidArgument` where that cannot be written."""
    if file is None:
        return
    written = file.with_suffix(".new")
    try:
        written.write_text(str(port))
        written.replace(file)
    except OSError as error:
        text = f"the port cannot be written to {file}: {error}; choose a data_dir that can be written"
        raise InvalidArgument(text, "invalid_argument", False) from error
