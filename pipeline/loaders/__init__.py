"""Torch datasets over a published store; needs only numpy, torch and the store's reader.

`FaceDataset` holds samples, `orders` say in which order to show them (`samplers` make them by the
names of columns), `FaceLoader` gathers batches, `transforms` change them.
"""

from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.loader import FaceLoader
from pipeline.loaders.orders import (
    BlockShuffled,
    Curriculum,
    Identities,
    InOrder,
    Mixed,
    Order,
    Pairs,
    Sequences,
    Shuffled,
)
from pipeline.loaders.samplers import balanced, identities, mixed, pairs, sequences
from pipeline.loaders.transforms import Draw

__all__ = [
    "BlockShuffled",
    "Curriculum",
    "Draw",
    "FaceDataset",
    "FaceLoader",
    "Identities",
    "InOrder",
    "Mixed",
    "Order",
    "Pairs",
    "Sequences",
    "Shuffled",
    "balanced",
    "identities",
    "mixed",
    "pairs",
    "sequences",
]
