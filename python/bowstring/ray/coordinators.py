"""Coordinators that run as actors: Ray places them, starts them again, and knows where they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bowstring.coordinator import StreamCoordinator
from bowstring.errors import BowstringError, InvalidArgument, Unavailable
from bowstring.ray.actor import CoordinatorActor
from bowstring.ray.finding import Named, actor_name, check_connected, find
from bowstring.spread import SpreadClient

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class CoordinatorStatus:
    """What one coordinator says of itself; of one that is away only its number is known.

    Attributes:
        index: its number.
        is_up: whether it answers.
        url, http_url: where it listens, and where /metrics, /healthz and /readyz are.
        pid, node: its process, and Ray's id of its node.
        is_restarted: whether Ray has started it again at least once.
        uptime: seconds since it was started last.
        streams, buffered_bytes, connections: how many streams it has parts of, bytes that they hold in memory, and open
            connections.
    """

    index: int
    is_up: bool
    url: str | None = None
    http_url: str | None = None
    pid: int | None = None
    node: str | None = None
    is_restarted: bool = False
    uptime: float = 0.0
    streams: int = 0
    buffered_bytes: int = 0
    connections: int = 0


class Coordinators:
    """The coordinators of a name. It pickles, by the name.

    Where `start_coordinators` made it, and not with `lifetime="detached"`, they live as long as this object and the
    driver do. A context manager: leaving it stops them.
    """

    def __init__(self, named: Named, actors: Sequence[Any] = ()) -> None:
        self._named = named
        # Ray ends actors that nobody holds the first handle of.
        self._actors = list(actors)
        self._client: SpreadClient | None = None

    @property
    def name(self) -> str:
        """By which `coordinators` finds them."""
        return self._named.name

    @property
    def urls(self) -> list[str | None]:
        """Where they are now, None for one that is away: for `bowstring.connect`, Spark's `url` and others."""
        return self._named()

    def __len__(self) -> int:
        """How many there are."""
        return self._named.count

    def client(self, **options: Any) -> SpreadClient:
        """A client of all of them, which finds them by name again wherever they are restarted; it pickles.

        `options` are those of `bowstring.spread.SpreadClient`; without any it is the same one at each call.
        """
        if options:
            return SpreadClient(self._named, **options)
        if self._client is None:
            self._client = SpreadClient(self._named)
        return self._client

    def create_stream(self, stream: str, **options: Any) -> dict[str, Any]:
        """Creates a stream over all of them: `SpreadClient.create_stream`."""
        return self.client().create_stream(stream, **options)

    def status(self, timeout: float = 5.0) -> list[CoordinatorStatus]:
        """How each of them is, by number; within `timeout` seconds."""
        answers = self._named.ask(lambda actor: actor.status.remote(), timeout)
        return [
            CoordinatorStatus(index, is_up=False) if answer is None else CoordinatorStatus(index, is_up=True, **answer)
            for index, answer in enumerate(answers)
        ]

    def wait(self, timeout: float = 60.0) -> None:
        """Waits until all of them are up. Raises `Unavailable` after `timeout` seconds, naming those that are not."""
        deadline = time.monotonic() + timeout
        while away := [index for index, url in enumerate(self.urls) if url is None]:
            if time.monotonic() >= deadline:
                text = f"of {len(self)} coordinators {self.name!r} those with the numbers {away} are away"
                raise Unavailable(
                    f"{text}; Ray may have no room for them, or their nodes are gone", "unavailable", True
                )
            time.sleep(0.1)

    def stop(self, grace: float = 5.0) -> None:
        """Ends all of them for good: calls under way get `grace` seconds. What is in a data directory stays there."""
        self._named.ask(lambda actor: actor.stop.remote(grace), grace + 5.0)
        for index in range(len(self)):
            actor = self._named.actor(index)
            if actor is not None:
                with suppress(RayError, ValueError):
                    ray.kill(actor, no_restart=True)
        self._actors = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __reduce__(self) -> tuple[Any, ...]:
        return Coordinators, (self._named,)

    def __repr__(self) -> str:
        return f"<{len(self)} coordinators {self.name!r}>"


def start_coordinators(
    n: int,
    name: str = "bowstring",
    *,
    namespace: str = "bowstring",
    data_dir: str | None = None,
    object_store: str | None = None,
    host: str | None = None,
    lifetime: Literal["detached"] | None = None,
    num_cpus: float = 1,
    resources: Mapping[str, float] | None = None,
    nodes: Sequence[str] | None = None,
    pinned: bool | None = None,
    timeout: float = 60.0,
    **options: Any,
) -> Coordinators:
    """Starts `n` coordinators as actors of Ray, which starts one again whose process ends. Returns when all are up.

    With a `data_dir` or an `object_store` a coordinator that is started again has its streams, and clients go on by
    themselves. Without either it has lost them: clients then get `StreamNotFound` or `StreamReplaced`, and the stream
    has to be deleted and created again.

    Args:
        n: how many.
        name: by which `coordinators` finds them.
        namespace: Ray's, in which names are unique: the same for all drivers that are to find them.
        data_dir: folder on the disk of each node, in which coordinator i uses `{name}-{i}`. It comes back at the same
            port then, if that is free.
        object_store: URL as for `StreamCoordinator`, below which coordinator i uses `{name}-{i}`: it may come back on
            any node. Its local disk is `data_dir` if given, else a folder of the node's temporary files.
        host: address to listen at and to be found by; each node's own by default.
        lifetime: "detached": they outlive the driver, until somebody stops them.
        num_cpus: CPUs that Ray sets aside for each.
        resources: what else it does, by name.
        nodes: Ray's ids of the nodes to pin them to, in turns; with `pinned` all that are alive by default.
        pinned: whether each stays on its node, and waits for it when it is gone. By default with a `data_dir` and
            without an `object_store`: what a disk has is nowhere else. Say False if the folder is shared by all nodes.
        timeout: seconds until all have to be up.
        options: further arguments of `StreamCoordinator`, but for `listen`. `insecure` is True here: whoever reaches a
            node's address reaches Ray's own ports, and can run code there. With `tls_cert` and `tls_key` (paths on each
            node) they speak TLS; `insecure=False` refuses to listen without.

    Raises:
        InvalidArgument: there are coordinators of that name, an option is not to be used, or no node is there.
        Unavailable: not all are up within `timeout` seconds; those that are are stopped.
    """
    check_connected()
    if n < 1:
        raise InvalidArgument(f"n is {n}; use one coordinator at least", "invalid_argument", False)
    known = set(signature(StreamCoordinator).parameters) - {"listen", "data_dir", "object_store"}
    if unknown := set(options) - known:
        text = f"{sorted(unknown)} are no options of such coordinators, whose listen is chosen by host"
        raise InvalidArgument(f"{text}; there are {sorted(known)}", "invalid_argument", False)
    is_pinned = (data_dir is not None and object_store is None) if pinned is None else pinned
    places = _places(n, nodes, is_pinned or nodes is not None)
    named = Named(name, namespace, n)
    started = Coordinators(named)
    actor_class = ray.remote(CoordinatorActor)
    try:
        for index in range(n):
            asked = actor_class.options(
                name=actor_name(name, index),
                namespace=namespace,
                lifetime=lifetime,
                max_restarts=-1,
                num_cpus=num_cpus,
                resources=dict(resources or {}),
                scheduling_strategy=places[index],
            )
            started._actors.append(asked.remote(name, index, n, host, data_dir, object_store, options))
        ray.get([actor.url.remote() for actor in started._actors], timeout=timeout)
    except ValueError as error:
        _end(started)
        if "already" not in str(error):
            raise InvalidArgument(f"Ray refuses such an actor: {error}", "invalid_argument", False) from error
        text = f"coordinators are called {name!r} in the namespace {namespace!r} already"
        hint = "find them with bowstring.ray.coordinators, stop them, or choose another name"
        raise InvalidArgument(f"{text}; {hint}", "invalid_argument", False) from error
    except GetTimeoutError as error:
        _end(started)
        text = f"{n} coordinators were not up within {timeout} s: Ray has no room for them, or they do not start"
        raise Unavailable(f"{text}; give it more time, or ask for less with num_cpus", "unavailable", True) from error
    except RayError as error:
        _end(started)
        raise _reason(error) from error
    except BaseException:
        _end(started)
        raise
    return started


def coordinators(name: str = "bowstring", *, namespace: str = "bowstring", timeout: float = 10.0) -> Coordinators:
    """The coordinators of that name, from any driver, task or actor of the cluster.

    Looks for `timeout` seconds. Raises `Unavailable` if there are none, and `InvalidArgument` outside of a cluster.
    """
    return Coordinators(find(name, namespace, timeout))


def _places(n: int, nodes: Sequence[str] | None, pinned: bool) -> list[Any]:
    """For each coordinator where Ray is to start it."""
    if not pinned:
        return ["SPREAD"] * n
    alive: list[str] = [node["NodeID"] for node in _nodes() if node["Alive"]]
    chosen = sorted(alive) if nodes is None else list(nodes)
    unknown = set(chosen) - set(alive)
    if unknown or not chosen:
        text = f"Ray has no nodes {sorted(unknown)}; those that are alive are {sorted(alive)}"
        raise InvalidArgument(text, "invalid_argument", False)
    return [NodeAffinitySchedulingStrategy(chosen[index % len(chosen)], soft=False) for index in range(n)]


def _nodes() -> list[dict[str, Any]]:
    nodes: Any = ray.nodes
    found: list[dict[str, Any]] = nodes()
    return found


def _end(started: Coordinators) -> None:
    """Those that were started, and no others of that name."""
    for actor in started._actors:
        with suppress(RayError):
            ray.kill(actor, no_restart=True)


def _reason(error: RayError) -> BowstringError:
    """Why an actor could not start, as its coordinator said it."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, BowstringError):
        return cause
    # Its last line is the error in the actor; above are the calls that led there.
    last = str(error).strip().rpartition("\n")[2]
    return InvalidArgument(f"a coordinator cannot start: {last}", "invalid_argument", False)
