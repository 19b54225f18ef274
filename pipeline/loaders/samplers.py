"""Orders of a dataset's samples by the names of its columns, instead of by codes.

What a column does not know (null) is a value of its own: rows of unknown sex are one class, and
two rows of unknown session count as of the same one. But what is unknown never differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import names, whole
from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.orders import Identities, Mixed, Pairs

UNKNOWN = (None, "", "unknown")
"""Values of a column that say nothing."""


def balanced(
    dataset: FaceDataset, columns: str | Sequence[str], length: int | None = None, seed: int = 0
) -> Mixed:
    """Each combination of the columns' values equally often: ("source", "sex", "expression").

    A class of few samples repeats them more often. `length` samples an epoch, by default as many
    as the dataset has.
    """
    codes, classes = _faces(dataset).classes(*names("columns", columns))
    return Mixed(codes, dict.fromkeys(range(len(classes)), 1.0), _length(dataset, length), seed)


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
    if not isinstance(shares, Mapping):
        raise FacefoldError(f"shares: got {shares!r}, expected {{value of the column: share}}")
    codes, classes = _faces(dataset).classes(*names("column", [column]))
    code_of = {value: code for code, (value,) in enumerate(classes)}
    if absent := [value for value in shares if value not in code_of]:
        held = ", ".join(sorted(map(str, code_of))[:10])
        raise FacefoldError(f"no sample has {column} {absent[0]!r}; they have {held}")
    coded = {code_of[value]: share for value, share in shares.items()}
    return Mixed(codes, coded, _length(dataset, length), seed)


def identities(
    dataset: FaceDataset, k: int, fewer: Literal["drop", "repeat"] = "drop", seed: int = 0
) -> Identities:
    """`k` scans of each person in a row, nobody twice in a batch."""
    return Identities(_faces(dataset).column("identity"), k, seed, fewer)


def pairs(
    dataset: FaceDataset,
    same: str | Sequence[str] = ("identity",),
    differ: str | Sequence[str] | None = None,
    seed: int = 0,
) -> Pairs:
    """Two samples in a row that agree in some columns and are known to differ in others.

    `same=("identity", "session")`: two frames of one session with different expressions, or with
    `differ="frame"` any two frames of it. Without `differ` it is `expression_class`, which is the
    same word for all sources, or the sources' own `expression` where no sample has one. Samples of
    which a column of `differ` is unknown (null, "" or "unknown") are left out.
    """
    if differ is None:
        differ = "expression_class" if _knows(_faces(dataset), "expression_class") else "expression"
    codes, classes = _faces(dataset).classes(*names("differ", differ))
    unknown = [any(_is_unknown(value) for value in values) for values in classes]
    differing = np.where(np.array(unknown)[codes], -1, codes)
    return Pairs(dataset.classes(*names("same", same))[0], differing, seed)


def _length(dataset: FaceDataset, length: int | None) -> int:
    return len(dataset) if length is None else whole("length", length, 1)


def _knows(dataset: FaceDataset, column: str) -> bool:
    """The store has the column, and it says something of some sample."""
    if column not in dataset.store.column_names:
        return False
    return not all(_is_unknown(value) for (value,) in dataset.classes(column)[1])


def _is_unknown(value: Any) -> bool:
    return value in UNKNOWN or value != value  # NaN


def _faces(dataset: Any) -> FaceDataset:
    if isinstance(dataset, FaceDataset):
        return dataset
    raise FacefoldError(f"dataset: got {type(dataset).__name__}, expected a FaceDataset")
