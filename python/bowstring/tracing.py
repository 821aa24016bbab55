"""The caller's own trace, where it uses OpenTelemetry: epochs link to it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CARRIED: ContextVar[str | None] = ContextVar("bowstring.traceparent", default=None)
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def current_traceparent() -> str | None:
    """What is carried here, or else the span that this thread is in, as W3C Trace Context's header has it.

    None without either. Only a process that uses OpenTelemetry has imported it: it is not imported here.
    """
    if (carried := _CARRIED.get()) is not None:
        return carried
    # Another thread may be importing it just now.
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:
        return None
    context = current().get_span_context()
    text = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    return text if _TRACEPARENT.fullmatch(text) else None


def checked_traceparent(text: str | None) -> str | None:
    """The text itself.

    Raises ValueError if it is no context of version 00 of https://www.w3.org/TR/trace-context/#traceparent-header.
    """
    if text is None or _TRACEPARENT.fullmatch(text):
        return text
    raise ValueError(
        f"traceparent is {text!r}, no context of version 00; write 00-, 32 hexadecimal digits, -, 16 of them, -, and 2 "
        "of them, in lower case"
    )


@contextmanager
def carried(traceparent: str | None) -> Iterator[None]:
    """What is called within carries this context; with None, what it would anyway."""
    token = _CARRIED.set(traceparent)
    try:
        yield
    finally:
        _CARRIED.reset(token)
