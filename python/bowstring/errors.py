"""One class per way of handling an error; `code` says exactly which it is (docs/errors.md lists them all)."""

from __future__ import annotations


class BowstringError(Exception):
    """Base of all errors that bowstring raises.

    `code` is stable; `retryable` says whether the same call may succeed later without anything else changing.
    """

    code: str = "internal"
    retryable: bool = False

    def __init__(self, text: str, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def __reduce__(self) -> tuple[type[BowstringError], tuple[str, str, bool]]:
        return type(self), (str(self), self.code, self.retryable)


class StreamNotFound(BowstringError, LookupError):
    """No stream of that name."""


class StreamExists(BowstringError):
    """A stream of that name exists already, perhaps with other options."""


class StreamReplaced(BowstringError):
    """The stream was deleted and created again; offsets of the former one mean nothing."""


class StreamEnded(BowstringError):
    """The stream is complete and takes no more batches."""


class StreamFailed(BowstringError):
    """The stream's producer ended it with an error; what was buffered before was delivered first."""


class SchemaMismatch(BowstringError):
    """The batches do not have the stream's schema."""


class TooLarge(BowstringError):
    """A batch or message is larger than could ever fit."""


class BufferFull(BowstringError):
    """The buffer is full and the stream's policy is to refuse, at once or after `max_wait_seconds`."""


class SpoolFull(BowstringError):
    """An epoch is larger than memory and spool together."""


class Timeout(BowstringError, TimeoutError):
    """A deadline passed while waiting; the same call may be made again."""


class Fenced(BowstringError):
    """A newer run of the same producer has taken over."""


class EpochError(BowstringError):
    """The epoch cannot be written or committed: run it again from its start."""


class OffsetError(BowstringError, LookupError):
    """An offset or partition that is not there."""


class LeaseLost(BowstringError):
    """What was acked was leased to another consumer since, or is to be read again; those acks changed nothing."""


class SubscriptionEvicted(BowstringError):
    """The subscription held room that was needed, and was to be evicted then: seek it, or delete it."""


class PermissionDenied(BowstringError, PermissionError):
    """Who calls is known, and may not do this; the text says what is lacking, and on which stream."""


class QueryFailed(BowstringError):
    """A subscription's query has no answer for a batch, which the text names: it divides by 0, a text is no number."""


class ProducerLost(BowstringError):
    """The producer stopped giving signs of life; everything it committed was delivered."""


class Unauthenticated(BowstringError, PermissionError):
    """The coordinator asks who calls, and there is no token, or it is unknown, revoked or expired."""


class Unavailable(BowstringError, ConnectionError):
    """The coordinator cannot be reached or is shutting down."""


class InvalidArgument(BowstringError, ValueError):
    """An argument that cannot be used."""


class Cancelled(BowstringError):
    """The call was cancelled."""


CLASSES: dict[str, type[BowstringError]] = {
    "invalid_argument": InvalidArgument,
    "stream_not_found": StreamNotFound,
    "stream_exists": StreamExists,
    "stream_replaced": StreamReplaced,
    "stream_completed": StreamEnded,
    "stream_failed": StreamFailed,
    "partition_out_of_range": OffsetError,
    "schema_mismatch": SchemaMismatch,
    "malformed_message": InvalidArgument,
    "message_too_large": TooLarge,
    "batch_too_large": TooLarge,
    "buffer_full": BufferFull,
    "spool_full": SpoolFull,
    "timeout": Timeout,
    "fenced": Fenced,
    "epoch_committed": EpochError,
    "epoch_not_open": EpochError,
    "receipt_unknown": EpochError,
    "subscription_not_found": StreamNotFound,
    "offset_gone": OffsetError,
    "offset_ahead": OffsetError,
    "subscription_moved": OffsetError,
    "lease_lost": LeaseLost,
    "subscription_evicted": SubscriptionEvicted,
    "unauthenticated": Unauthenticated,
    "permission_denied": PermissionDenied,
    "query_failed": QueryFailed,
    "ordinal_gap": Unavailable,
    "appender_not_ready": Unavailable,
    "producer_lost": ProducerLost,
    "too_many": BufferFull,
    "shutting_down": Unavailable,
    "unavailable": Unavailable,
    "cancelled": Cancelled,
    "storage": Unavailable,
    "unimplemented": InvalidArgument,
    "internal": BowstringError,
}


def make(code: str, retryable: bool, text: str) -> BowstringError:
    """The exception of a code. Called by the native module."""
    return CLASSES.get(code, BowstringError)(text, code, retryable)
