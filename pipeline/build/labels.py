"""One label a person: what all their kept scans say together, as a result with a key of its own.

The key covers the scans' registrations, so that one more scan of a person makes one new label.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.build.code_keys import stage_code
from pipeline.build.result_files import (
    Label,
    label_path,
    load_label,
    load_registration,
    result_path,
    save_label,
)
from pipeline.build.stages import Work
from pipeline.errors import FacefoldError, StoreError
from pipeline.registration.consensus import consensus
from pipeline.registration.template import Template
from pipeline.types import Array


@dataclass(frozen=True)
class PersonScans:
    """A person under one name, with the registered scans that are theirs."""

    name: str
    scan_ids: tuple[str, ...]
    result_keys: tuple[str, ...]
    neutral: tuple[bool, ...]
    modes: int
    """Of the residual in most of the registrations."""
    key: str
    """Of the label."""


def people_of(
    works: Iterable[Work], name_of: Mapping[str, str], modes_of: Mapping[str, int]
) -> dict[str, PersonScans]:
    """Name -> the person with the scans that `name_of`, by scan id, says are theirs; by name.

    `modes_of` says of each source how many modes its scans were registered with.
    """
    scans: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        scans[name_of[work.record.scan_id]].append(work)
    return {name: _person(name, scans[name], modes_of) for name in sorted(scans)}


def _person(name: str, works: Sequence[Work], modes_of: Mapping[str, int]) -> PersonScans:
    own = sorted(works, key=lambda work: work.record.scan_id)
    keys = tuple(work.keys.register for work in own)
    neutral = tuple(work.record.neutral for work in own)
    modes = usual_modes(own, modes_of)
    facts = stage_code("label"), modes, sorted(zip(keys, neutral, strict=True))
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    return PersonScans(name, tuple(w.record.scan_id for w in own), keys, neutral, modes, key)


def usual_modes(works: Sequence[Work], modes_of: Mapping[str, int]) -> int:
    """Of the residual in most of the registrations; `modes_of` is by source."""
    counts = Counter(modes_of[work.record.source] for work in works)
    return max(counts, key=lambda modes: (counts[modes], modes))


def without_label(people: Iterable[PersonScans], work: Path) -> list[PersonScans]:
    """Those whose label has to be made."""
    return [person for person in people if not label_path(work, person.key).exists()]


def make_label(person: PersonScans, work: Path, template: Template) -> Label:
    """The label of a person from the result files below a build's work folder, where it is left.

    Raises FacefoldError where a result has gone.
    """
    scans = []
    for key, scan_id in zip(person.result_keys, person.scan_ids, strict=True):
        found = load_registration(result_path(work, key), template)
        if found is None:
            raise FacefoldError(
                f"{scan_id}: its result {result_path(work, key)} is missing or damaged; build again"
            )
        scans.append(found)
    agreed = consensus(template, person.modes, scans, person.neutral)
    label = Label(
        agreed.neutral_mm,
        agreed.shape,
        agreed.expected_error_mm,
        agreed.weights.astype(np.float32),
        agreed.misfit.astype(np.float32),
        agreed.contested,
    )
    save_label(label_path(work, person.key), label)
    return label


def label_rows(work: Path, keys: Sequence[str]) -> dict[str, Array]:
    """The arrays of the people whose labels have these keys, in order, as `write_shard` takes them.

    Raises StoreError where a label has gone or is damaged; the next build makes it again.
    """
    labels = []
    for key in keys:
        path = label_path(work, key)
        label = load_label(path)
        if label is None:
            path.unlink(missing_ok=True)
            raise StoreError(f"{path}: the label was missing or damaged; build again")
        labels.append(label)
    return {
        "identity_neutral_mm": np.stack([label.neutral_mm for label in labels]),
        "identity_shape": np.stack([label.shape for label in labels]),
        "identity_expected_error_mm": np.stack([label.expected_error_mm for label in labels]),
        "identity_scans": np.array([(label.weights > 0).sum() for label in labels], np.int32),
    }
