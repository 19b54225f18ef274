"""Torch datasets over a published store; needs only numpy, torch and the store's reader.

`FaceDataset` holds samples, `orders` say in which order to show them, `FaceLoader` gathers batches.
"""

from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.loader import Draw, FaceLoader
from pipeline.loaders.orders import (
    BlockShuffled,
    Curriculum,
    Identities,
    InOrder,
    Mixed,
    Order,
    Pairs,
    Shuffled,
)

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
    "Shuffled",
]
