"""What a coordinator is asked that only the Flight protocol answers (docs/flight.md), when it is at another address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.errors import Unavailable
from bowstring.starts import Start, start_text

if TYPE_CHECKING:
    from pyarrow import flight

#: Seconds for an answer.
_TIMEOUT = 10.0


def stored_of(url: str, stream: str, producer: str, run: str, schema: pa.Schema) -> int:
    """How many batches of this run of a producer are stored. Whoever still appends in its name is cut off.

    Raises `Unavailable`.
    """
    from pyarrow import flight

    descriptor = flight.FlightDescriptor.for_command(_json(stream=stream, producer=producer, run=run))
    with _asked(url) as (client, options):
        writer, answers = client.do_put(descriptor, schema, options)
        with writer:
            answer = answers.read()
            return 0 if answer is None else next_ordinal(answer.to_pybytes())


def is_sought(url: str, stream: str, subscription: str, generation: int) -> bool:
    """Whether a seek has put the subscription elsewhere since its generation was this. Raises `Unavailable`."""
    from pyarrow import flight

    ticket = _json(stream=stream, subscription=subscription, generation=generation, batches_max=1)
    with _asked(url) as (client, options):
        try:
            client.do_get(flight.Ticket(ticket), options).cancel()
        except pa.ArrowException as error:
            if "[subscription_moved]" in str(error) or "[stream_not_found]" in str(error):
                return True
            raise
    return False


def located(url: str, stream: str, start: Start) -> dict[int, int]:
    """The offsets at which a start lies, by partition. Raises `Unavailable`."""
    from pyarrow import flight

    with _asked(url) as (client, options):
        action = flight.Action("locate", _json(stream=stream, start=start_text(start)))
        (answer,) = client.do_action(action, options)
        offsets: dict[str, int] = json.loads(answer.body.to_pybytes())["offsets"]
        return {int(partition): offset for partition, offset in offsets.items()}


def next_ordinal(message: bytes) -> int:
    """The first field of an `AppendResult`, a varint; 0 where it is left out. Raises `ValueError` for anything else."""
    if not message or message[0] != 0x08:
        return 0
    number = 0
    for index, byte in enumerate(message[1:11]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number
    raise ValueError("the answer of the coordinator ends within a number")


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@contextmanager
def _asked(url: str) -> Iterator[tuple[flight.FlightClient, flight.FlightCallOptions]]:
    from pyarrow import flight

    try:
        with flight.connect(url) as client:
            yield client, flight.FlightCallOptions(timeout=_TIMEOUT)
    except pa.ArrowException as error:
        text = f"the coordinator at {url} does not say where it stands: {error}"
        raise Unavailable(text, "unavailable", True) from error
