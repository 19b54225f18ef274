"""Who is who: people within and across sources, and the split each falls into."""

from pipeline.identity.people import identities
from pipeline.identity.splits import assign_splits, split_of

__all__ = ["assign_splits", "identities", "split_of"]
