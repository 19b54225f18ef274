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
from pipeline.loaders.dataset import FaceDataset, Unit
from pipeline.loaders.orders import Identities, Mixed, Pairs, Sequences
from pipeline.store.schema import VIEW

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
    dataset: FaceDataset,
    k: int,
    fewer: Literal["drop", "repeat"] = "drop",
    seed: int = 0,
    *,
    unit: Unit | None = None,
) -> Identities:
    """`k` scans of each person in a row, nobody twice in a batch; of a dataset of views (`unit`
    "view") `k` views of each: people × images, as MICA is trained.

    `unit` says which of both is meant. Raises FacefoldError where the dataset's samples are others.
    """
    if unit is not None and unit != _faces(dataset).unit:
        raise FacefoldError(
            f"unit: got {unit!r}, but the dataset's samples are {dataset.unit}s: make it with "
            f"FaceDataset(…, unit={unit!r})"
        )
    return Identities(_faces(dataset).column("identity"), k, seed, fewer)


def sequences(
    dataset: FaceDataset,
    n: int,
    same: str | Sequence[str] | None = None,
    step: int = 1,
    seed: int = 0,
) -> Sequences:
    """`n` frames in a row, every `step`-th one, of samples that agree in `same`, by their `frame`.

    Without `same` it is ("identity", "session"), and of a dataset of views "view" too: of each
    frame the picture of one name. What sources film in several takes a session needs more, such as
    "expression". Frames that are unknown are left out, sequences of fewer than `n` times `step`
    too; `.left_out` counts them. Raises FacefoldError where two samples have the same frame.
    """
    if same is None:
        same = ("identity", "session") + ("view",) * (_faces(dataset).unit == VIEW)
    codes, _ = _faces(dataset).classes(*names("same", same))
    return Sequences(codes, dataset.column("frame"), whole("n", n, 1), step, seed)


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
    if not dataset.has_column(column):
        return False
    return not all(_is_unknown(value) for (value,) in dataset.classes(column)[1])


def _is_unknown(value: Any) -> bool:
    return value in UNKNOWN or value != value  # NaN


def _faces(dataset: Any) -> FaceDataset:
    if isinstance(dataset, FaceDataset):
        return dataset
    raise FacefoldError(f"dataset: got {type(dataset).__name__}, expected a FaceDataset")
