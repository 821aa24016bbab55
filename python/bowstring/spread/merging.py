"""What the coordinators say of their parts of a stream, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bowstring.looking import Lag, StreamLag, SubscriptionLag
from bowstring.spread.places import Places
from bowstring.starts import Moved

_SUMS = (
    "buffered_batches",
    "buffered_bytes",
    "spooled_batches",
    "spooled_bytes",
    "logged_batches",
    "logged_bytes",
)


def described(places: Places, parts: Sequence[dict[str, Any]], urls: Sequence[str | None]) -> dict[str, Any]:
    """A description with the stream's own numbers of partitions; `coordinators` has each one's as it came."""
    states = {part["state"] for part in parts}
    state = "failed" if "failed" in states else "open" if "open" in states else "completed"
    return {
        "stream": places.stream,
        "state": state,
        "reason": next((part["reason"] for part in parts if part["reason"]), ""),
        "schema": next((part["schema"] for part in parts if part["schema"] is not None), None),
        "options": parts[0]["options"] | {"partitions": places.partitions},
        "is_durable": all(part["is_durable"] for part in parts),
        "partitions": _numbered(places, [part["partitions"] for part in parts]),
        "subscriptions": _subscriptions(places, parts),
        "producers": [one for part in parts for one in part["producers"]],
        "waiting": [one for part in parts for one in part["waiting"]],
        **{name: sum(part[name] for part in parts) for name in _SUMS},
        "coordinators": [{"url": url, "description": part} for url, part in zip(urls, parts, strict=False)],
    }


def _numbered(places: Places, parts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """What is said of each partition, in the order of the stream's numbers."""
    found = [
        {**one, "partition": places.number(coordinator, one["partition"])}
        for coordinator, part in enumerate(parts)
        for one in part
    ]
    return sorted(found, key=lambda one: int(one["partition"]))


def _subscriptions(places: Places, parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By name; one that some coordinators do not know has only the others' partitions."""
    names = dict.fromkeys(one["subscription"] for part in parts for one in part["subscriptions"])
    return [subscription_of(places, parts, name) for name in names]


def subscription_of(places: Places, parts: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One of that name, from the descriptions of a stream."""
    known = [next((one for one in part["subscriptions"] if one["subscription"] == name), None) for part in parts]
    return merged_subscription(places, known)


def merged_subscription(places: Places, known: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """One from each coordinator's, None where there is none."""
    first = next(one for one in known if one is not None)
    partitions = _numbered(places, [[] if one is None else one["partitions"] for one in known])
    return {
        "subscription": first["subscription"],
        "mode": first["mode"],
        "on_overflow": first["on_overflow"],
        "partitions": partitions,
        "consumers": [
            {
                **consumer,
                "partitions": [
                    {**one, "partition": places.number(coordinator, one["partition"])}
                    for one in consumer.get("partitions", ())
                ],
            }
            for coordinator, one in enumerate(known)
            if one is not None
            for consumer in one["consumers"]
        ],
    }


def lag_over(places: Places, parts: Sequence[StreamLag]) -> StreamLag:
    """The lag of each subscription over all coordinators."""
    names = dict.fromkeys(one.subscription for part in parts for one in part)
    return StreamLag(places.stream, tuple(_lag_of(places, parts, name) for name in names))


def _lag_of(places: Places, parts: Sequence[StreamLag], name: str) -> SubscriptionLag:
    known = [(coordinator, one) for coordinator, part in enumerate(parts) for one in part if one.subscription == name]
    partitions = [
        replace(lag, partition=places.number(coordinator, lag.partition or 0))
        for coordinator, one in known
        for lag in one.partitions
    ]
    partitions.sort(key=lambda lag: lag.partition or 0)
    return SubscriptionLag(name, _total([one.total for _, one in known]), tuple(partitions))


def _total(lags: Sequence[Lag]) -> Lag:
    def most(of: Callable[[Lag], float]) -> float:
        return max(map(of, lags), default=0.0)

    # None where something does not drain, and is waited for for ever.
    drains = [lag.drains_in for lag in lags if lag.batches]
    return Lag(
        batches=sum(lag.batches for lag in lags),
        rows=sum(lag.rows for lag in lags),
        bytes=sum(lag.bytes for lag in lags),
        age=most(lambda lag: lag.age),
        held=most(lambda lag: lag.held),
        drains_in=None if None in drains else max((one for one in drains if one is not None), default=0.0),
        skipped=sum(lag.skipped for lag in lags),
        consumers=tuple(dict.fromkeys(consumer for lag in lags for consumer in lag.consumers)),
    )


def moved_over(places: Places, parts: Iterable[tuple[int, Moved]], dry_run: bool) -> Moved:
    """What a seek has moved at all coordinators."""
    moves = [
        move._replace(partition=places.number(coordinator, move.partition))
        for coordinator, part in parts
        for move in part.partitions
    ]
    return Moved(tuple(sorted(moves, key=lambda move: move.partition)), dry_run)
