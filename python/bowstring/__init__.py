"""bowstring: the bridge between Spark Structured Streaming and everything that is not Spark.

>>> import bowstring
>>> with bowstring.StreamCoordinator() as coordinator:
...     client = coordinator.client()
...     with client.producer("numbers") as producer:
...         producer.append(table)
...         producer.complete()
...     for batch in client.iterator("numbers"):
...         print(batch.num_rows)
"""

from bowstring import _loading as _loading  # First of all.
from bowstring.appending import EpochWriter, Producer
from bowstring.client import Client, connect
from bowstring.coordinator import StreamCoordinator
from bowstring.epochs import CommittedEpoch, Epochs
from bowstring.errors import (
    BowstringError,
    BufferFull,
    Cancelled,
    EpochError,
    Fenced,
    InvalidArgument,
    LeaseLost,
    OffsetError,
    PermissionDenied,
    ProducerLost,
    QueryFailed,
    SchemaMismatch,
    SpoolFull,
    StreamEnded,
    StreamExists,
    StreamFailed,
    StreamNotFound,
    StreamReplaced,
    SubscriptionEvicted,
    Timeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from bowstring.flows import Flow, flow
from bowstring.formats import Decoded, RowDecoder
from bowstring.handles import BatchHandle
from bowstring.iterator import StreamingIterator
from bowstring.looking import Lag, Peek, Reason, StreamLag, SubscriptionLag, Why
from bowstring.sharing import Sharing
from bowstring.starts import Epoch, Moved, PartitionMove
from bowstring.subscription import Subscription

__all__ = [
    "BatchHandle",
    "BowstringError",
    "BufferFull",
    "Cancelled",
    "Client",
    "CommittedEpoch",
    "Decoded",
    "Epoch",
    "EpochError",
    "EpochWriter",
    "Epochs",
    "Fenced",
    "Flow",
    "InvalidArgument",
    "Lag",
    "LeaseLost",
    "Moved",
    "OffsetError",
    "PartitionMove",
    "Peek",
    "PermissionDenied",
    "Producer",
    "ProducerLost",
    "QueryFailed",
    "Reason",
    "RowDecoder",
    "SchemaMismatch",
    "Sharing",
    "SpoolFull",
    "StreamCoordinator",
    "StreamEnded",
    "StreamExists",
    "StreamFailed",
    "StreamLag",
    "StreamNotFound",
    "StreamReplaced",
    "StreamingIterator",
    "Subscription",
    "SubscriptionEvicted",
    "SubscriptionLag",
    "Timeout",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Why",
    "connect",
    "flow",
]
