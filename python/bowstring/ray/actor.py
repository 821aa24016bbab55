"""The actor that is a coordinator."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from bowstring.coordinator import StreamCoordinator
from bowstring.errors import BowstringError, InvalidArgument, Unavailable
from bowstring.ray.ports import candidates, recall, remember

_LOGGER = logging.getLogger("bowstring")
#: Seconds for which a restarted actor tries again what may go away: the folder's lock of the process before it, an
#: object store that does not answer.
_RESTART_DEADLINE = 120.0


class CoordinatorActor:
    """Coordinator `index` of `count` that share a name. Ray starts it again when its process ends."""

    def __init__(
        self,
        name: str,
        index: int,
        count: int,
        host: str | None,
        data_dir: str | None,
        object_store: str | None,
        options: dict[str, Any],
    ) -> None:
        self._count = count
        own = f"{name}-{index}"
        home = home_of(own, data_dir, object_store)
        if home is not None:
            _make(home)
            options = options | {"data_dir": str(home / "data")}
        if object_store is not None:
            options = options | {"object_store": f"{object_store.rstrip('/')}/{own}"}
        own_address: Any = ray.util.get_node_ip_address
        host = host or str(own_address())
        context = ray.get_runtime_context()
        self._node = context.get_node_id()
        self._is_restarted = bool(context.was_current_actor_reconstructed)
        deadline = time.monotonic() + (_RESTART_DEADLINE if self._is_restarted else 0.0)
        while True:
            try:
                self._coordinator = _listening(host, None if home is None else home / "port", options)
                break
            except (InvalidArgument, Unavailable) as error:
                # Raised, it would end the actor for good.
                if time.monotonic() >= deadline:
                    raise
                _LOGGER.warning("coordinator %s cannot start again yet: %s", own, error)
                time.sleep(1.0)

    def url(self) -> str:
        """Where it listens."""
        return self._coordinator.url

    def count(self) -> int:
        """How many coordinators there are of the name."""
        return self._count

    def status(self) -> dict[str, Any]:
        """What `CoordinatorStatus` tells."""
        stats = self._coordinator.client().get_stats()
        return {
            "url": self._coordinator.url,
            "http_url": self._coordinator.http_url,
            "pid": os.getpid(),
            "node": self._node,
            "is_restarted": self._is_restarted,
            "uptime": stats["uptime_micros"] / 1e6,
            "streams": len(stats["streams"]),
            "buffered_bytes": sum(one["buffered_bytes"] for one in stats["streams"]),
            "connections": stats["open_connections"],
        }

    def stop(self, grace: float) -> None:
        """Ends the coordinator: its clients are told."""
        self._coordinator.stop(grace)


def home_of(own: str, data_dir: str | None, object_store: str | None) -> Path | None:
    """The folder of one coordinator, on the disk of its node."""
    if data_dir is not None:
        return Path(data_dir) / own
    if object_store is None:
        return None
    # What is there belongs to one store.
    store = hashlib.sha256(object_store.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"bowstring-ray-{os.getuid()}" / store / own


def _make(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"the folder {home} cannot be made: {error}; choose a data_dir that can be written"
        raise InvalidArgument(text, "invalid_argument", False) from error


def _listening(host: str, memory: Path | None, options: dict[str, Any]) -> StreamCoordinator:
    """A coordinator at the port that is remembered, or else at another one. Raises `InvalidArgument`."""
    at = f"[{host}]" if ":" in host else host
    refused: BowstringError | None = None
    for port in candidates(host, recall(memory)):
        try:
            # Whoever reaches a node's address reaches Ray's own ports, too, and can run code there: the coordinator
            # opens nothing that is not open already.
            started = StreamCoordinator(**{"http": f"{at}:0", "insecure": True, **options, "listen": f"{at}:{port}"})
        except InvalidArgument as error:
            if "in use" not in str(error).lower() or f":{port}" not in str(error):
                raise
            # Somebody was faster.
            refused = error
            continue
        remember(memory, port)
        return started
    raise refused or InvalidArgument(f"no port is free at {host}; use another host", "invalid_argument", False)
