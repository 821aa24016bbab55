"""The caller's own trace, where it uses OpenTelemetry: epochs link to it."""

from __future__ import annotations

import sys


def current_traceparent() -> str | None:
    """The span that this thread is in, as W3C Trace Context's header has it; None without one, or without OpenTelemetry.

    Only a process that uses OpenTelemetry has imported it: it is not imported here.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
