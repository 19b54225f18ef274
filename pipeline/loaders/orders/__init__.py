"""In which order an epoch shows the samples: functions of (seed, epoch, position), nothing else.

Any rank, worker or resumed run that asks for the same positions gets the same samples, so an order
needs no state but a position. Every order answers `size(epoch)` and `at(epoch, positions)`;
`group` positions in a row belong together and are never parted between batches. The `repr` of an
order is exact: equal for orders that show the same.
"""

from pipeline.loaders.orders.all_samples import BlockShuffled, Curriculum, InOrder, Shuffled
from pipeline.loaders.orders.by_class import Identities, Mixed, Pairs
from pipeline.loaders.orders.in_sequence import Sequences
from pipeline.loaders.orders.protocol import Order

__all__ = [
    "BlockShuffled",
    "Curriculum",
    "Identities",
    "InOrder",
    "Mixed",
    "Order",
    "Pairs",
    "Sequences",
    "Shuffled",
]
