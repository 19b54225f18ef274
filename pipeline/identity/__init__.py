"""Who is who: people within and across sources, and the split each falls into."""

from pipeline.identity.leaks import HeldBack, Rule, held_back, report_rows, sure
from pipeline.identity.people import identities, names_of
from pipeline.identity.splits import assign_splits, split_of

__all__ = [
    "HeldBack",
    "Rule",
    "assign_splits",
    "held_back",
    "identities",
    "names_of",
    "report_rows",
    "split_of",
    "sure",
]
