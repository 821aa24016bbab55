"""Training on streams: `StreamDataset` is an `IterableDataset` whose ranks all have the same number of batches.

Needs torch, which the wheel does not ask for.
"""

from bowstring.torch.dataset import Batch, StreamDataset
from bowstring.torch.loader import StreamLoader

__all__ = ["Batch", "StreamDataset", "StreamLoader"]
