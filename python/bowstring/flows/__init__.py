"""Flows: filter, compute and aggregate a stream's batches, with event-time windows and state that survives crashes."""

from bowstring.flows.building import Flow, flow
from bowstring.flows.expressions import Expression, avg, count, max, min, sum  # noqa: A004 - SQL's names.
from bowstring.flows.jobs import Job
from bowstring.flows.windows import Window, session, sliding, tumbling

__all__ = [
    "Expression",
    "Flow",
    "Job",
    "Window",
    "avg",
    "count",
    "flow",
    "max",
    "min",
    "session",
    "sliding",
    "sum",
    "tumbling",
]
