"""Orders of a dataset's samples by the names of its columns, instead of by codes.

What a column does not know (null) is a value of its own: rows of unknown sex are one class, and
two rows of unknown session count as of the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.errors import FacefoldError
from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.orders import Identities, Mixed, Pairs


def balanced(
    dataset: FaceDataset, columns: Sequence[str], length: int | None = None, seed: int = 0
) -> Mixed:
    """Each combination of the columns' values equally often: ("source", "sex", "expression").

    A class of few samples repeats them more often. `length` samples an epoch, by default as many
    as the dataset has.
    """
    codes, classes = dataset.classes(*columns)
    return Mixed(codes, dict.fromkeys(range(len(classes)), 1.0), length or len(dataset), seed)


def mixed(
    dataset: FaceDataset,
    column: str,
    shares: Mapping[Any, float],
    length: int | None = None,
    seed: int = 0,
) -> Mixed:
    """Samples in given shares: ("source", {"stirling": 0.5, "frgc": 0.3}). Others are left out.

    None in `shares` is what the column does not know. Raises FacefoldError for a value that no
    sample has.
    """
    codes, classes = dataset.classes(column)
    code_of = {value: code for code, (value,) in enumerate(classes)}
    if absent := [value for value in shares if value not in code_of]:
        held = ", ".join(sorted(map(str, code_of))[:10])
        raise FacefoldError(f"no sample has {column} {absent[0]!r}; they have {held}")
    coded = {code_of[value]: share for value, share in shares.items()}
    return Mixed(codes, coded, length or len(dataset), seed)


def identities(
    dataset: FaceDataset, k: int, fewer: Literal["drop", "repeat"] = "drop", seed: int = 0
) -> Identities:
    """`k` scans of each person in a row, nobody twice in a batch."""
    return Identities(dataset.column("identity"), k, seed, fewer)


def pairs(
    dataset: FaceDataset,
    same: Sequence[str] = ("identity",),
    differ: Sequence[str] = ("expression",),
    seed: int = 0,
) -> Pairs:
    """Two samples in a row that agree in some columns and differ in others.

    `same=("identity", "session")`: two frames of one session with different expressions.
    """
    return Pairs(dataset.classes(*same)[0], dataset.classes(*differ)[0], seed)
