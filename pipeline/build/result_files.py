"""What the stages of a scan leave on disk for those after them: clean scans, and rows of arrays.

Files are named by the key of the result; one that is missing or damaged is made again, so nothing
depends on them but time. Each holds arrays in the safetensors format, which is read several times
as fast as .npz, and a CRC-32C after them.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from pipeline.errors import RegistrationError, StoreError
from pipeline.refusals import Code
from pipeline.registration.outcome import failed
from pipeline.registration.template import Template
from pipeline.store.checksums import with_checksum
from pipeline.store.durable_files import disk_faults_told
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import (
    REGISTRATION_ARRAYS,
    Array,
    MarginalInformation,
    Registration,
    Scan,
)

SUFFIX = ".arrays"
FACTS = "facts"
"""The entry with what is no array, as JSON."""
SCAN_ARRAYS = tuple(f.name for f in fields(Scan) if "Array" in str(f.type))
SCAN_FACTS = tuple(f.name for f in fields(Scan) if f.name not in SCAN_ARRAYS)
REGISTRATION_FACTS = tuple(
    f.name
    for f in fields(Registration)
    if f.name not in {*REGISTRATION_ARRAYS, "marginal", "seconds"}
)
"""What is kept of a registration besides its arrays; not how long it took."""
MARGINAL_ARRAYS = {"marginal_mean": "mean", "marginal_triangle": "triangle"}
"""Array of a result's file -> field of `MarginalInformation`; not in the store's rows."""
_DAMAGED = (OSError, StoreError, ValueError, KeyError, TypeError)


def scan_path(work: Path | str, key: str) -> Path:
    """Where a clean scan lies: a folder for each first byte keeps folders small."""
    return Path(f"{work}/scans/{key[:2]}/{key}{SUFFIX}")


def result_path(work: Path | str, key: str) -> Path:
    """Where a registered scan's arrays lie."""
    return Path(f"{work}/results/{key[:2]}/{key}{SUFFIX}")


def label_path(work: Path | str, key: str) -> Path:
    """Where the label of a person lies."""
    return Path(f"{work}/people/labels/{key[:2]}/{key}{SUFFIX}")


def save_scan(path: Path | str, scan: Scan) -> None:
    path = Path(path)
    arrays = {name: getattr(scan, name) for name in SCAN_ARRAYS}
    arrays["faces"] = scan.faces.astype(np.uint32)
    _save(path, arrays, {name: getattr(scan, name) for name in SCAN_FACTS})


def load_scan(path: Path | str) -> Scan | None:
    """What `save_scan` wrote, equal in every bit; None where it is missing or damaged."""
    path = Path(path)
    try:
        arrays, facts = _load(path)
        return Scan(**arrays, **facts)  # type: ignore[arg-type]
    except _DAMAGED:
        return None


def save_result(path: Path | str, row: Mapping[str, Array], registration: Registration) -> None:
    """A registration's `row_fields` and `point_fields`, none if it failed, and its marginal."""
    path = Path(path)
    facts = {name: getattr(registration, name) for name in REGISTRATION_FACTS}
    marginal = registration.marginal
    own = {name: getattr(marginal, field, None) for name, field in MARGINAL_ARRAYS.items()}
    _save(path, {**row, **own}, facts, lasting=True)


def load_registration(path: Path | str, template: Template) -> Registration | None:
    """The registration that `save_result` was given; None where it is missing or damaged.

    A registration's arrays are the row's own, bit for bit: they have one dtype.
    """
    path = Path(path)
    try:
        stored, facts = _load(path)
        facts["code"] = facts["code"] and Code(facts["code"])
        if facts["status"] == "failed":
            fault = RegistrationError(facts["reason"], facts["code"], facts["figures"])
            return failed(template, facts["scan_id"], fault)
        n_vertices = len(stored["vertices_mm"])
        arrays: dict[str, Any] = {
            name: unpack_validity(stored[name], n_vertices)
            if array.dtype is np.bool_
            else stored[name]
            for name, array in REGISTRATION_ARRAYS.items()
        }
        return Registration(marginal=_marginal(stored), **arrays, **facts)
    except _DAMAGED:
        return None


def load_marginal(path: Path | str) -> MarginalInformation | None:
    """What the registration in a result's file says of its person; None where it says nothing.

    Raises FileNotFoundError where the file is missing, StoreError where it is damaged.
    """
    return _marginal(_load(Path(path))[0])


def _marginal(stored: Mapping[str, Array]) -> MarginalInformation | None:
    if not MARGINAL_ARRAYS.keys() <= stored.keys():
        return None
    return MarginalInformation(**{field: stored[name] for name, field in MARGINAL_ARRAYS.items()})


def load_row(path: Path | str) -> dict[str, Array]:
    """The row of arrays that `save_result` was given, by field.

    Raises FileNotFoundError where it is missing, StoreError where it is damaged.
    """
    stored = _load(Path(path))[0]
    return {name: array for name, array in stored.items() if name not in MARGINAL_ARRAYS}


class Label(NamedTuple):
    """What all scans of a person say together (`registration.consensus`)."""

    neutral_mm: Array  # (V,3) float32, anchored
    shape: Array  # (300,) float32
    expected_error_mm: Array  # (V,) float32
    weights: Array  # (n,) float32, share of each scan in the order given; 0: left out
    misfit: Array  # (n,) float32, NaN of those that say nothing
    contested: bool
    """The scans contradict each other, and no majority decides."""


class ScanViews(NamedTuple):
    """What the views of a scan came to, besides their arrays."""

    key: str
    """Names the file of their arrays, `views_path`; there is none without `rows`."""
    rows: tuple[dict[str, Any], ...] = ()
    """Of the table `views`, by column, in the order of the arrays; who the scan is of, and where
    the rows lie, is not among the columns."""
    refused: tuple[dict[str, Any], ...] = ()
    """Of the table `refused_views`, by column."""
    embedding_key: str = ""
    """Names the file of their embeddings, `embeddings_path`; "": there are none."""

    @property
    def result_key(self) -> str:
        """Of all arrays of the views: another one means other rows."""
        return f"{self.key}+{self.embedding_key}" if self.embedding_key else self.key


def views_path(work: Path | str, key: str) -> Path:
    """Where the arrays of a scan's views lie."""
    return Path(f"{work}/views/{key[:2]}/{key}{SUFFIX}")


def embeddings_path(work: Path | str, key: str) -> Path:
    """Where the embeddings of a scan's views lie."""
    return Path(f"{work}/embeddings/{key[:2]}/{key}{SUFFIX}")


def save_views(path: Path | str, scan_id: str, arrays: Mapping[str, Array]) -> None:
    """Field of a view -> (n,*shape) of all n views of a scan, or their embeddings alone."""
    _save(Path(path), arrays, {"scan_id": scan_id}, lasting=True)


def load_view_arrays(path: Path | str) -> dict[str, Array]:
    """What `save_views` was given: field -> (n,*shape), as the store has it.

    Raises FileNotFoundError where it is missing, StoreError where it is damaged.
    """
    return _load(Path(path))[0]


def save_label(path: Path | str, label: Label) -> None:
    arrays = label._asdict()
    facts = {"contested": bool(arrays.pop("contested"))}
    _save(Path(path), arrays, facts, lasting=True)


def load_label(path: Path | str) -> Label | None:
    """What `save_label` wrote; None where it is missing or damaged."""
    try:
        arrays, facts = _load(Path(path))
        return Label(**arrays, contested=bool(facts["contested"]))
    except _DAMAGED:
        return None


def evidence_path(work: Path | str, key: str) -> Path:
    """Where what is known of who a person is lies."""
    return Path(f"{work}/people/evidence/{key[:2]}/{key}{SUFFIX}")


class PersonEvidence(NamedTuple):
    """What n scans filed under one name say of who they are, in g groups of one person each
    (`identity.misfiled`)."""

    group: Array  # (n,) int64: of each scan; -1: it says nothing
    information: Array  # (g,d,d) float32
    pull: Array  # (g,d) float32
    mean: Array  # (g,d) float32, what is believed
    variance: Array  # (g,d) float32
    main: Array  # (g,) bool
    against: Array  # (g,) float64
    face_mm: Array  # (n,K,3) float32, points of the registered faces
    seen: Array  # (n,K) bool


def save_evidence(path: Path | str, evidence: PersonEvidence) -> None:
    _save(Path(path), evidence._asdict(), {})


def load_evidence(path: Path | str) -> PersonEvidence | None:
    """What `save_evidence` wrote; None where it is missing or damaged."""
    try:
        return PersonEvidence(**_load(Path(path))[0])
    except _DAMAGED:
        return None


def save_arrays(path: Path | str, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Any arrays, with facts that JSON can hold."""
    _save(Path(path), arrays, facts)


def load_arrays(path: Path | str) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """What `save_arrays` was given; None where it is missing or damaged."""
    try:
        return _load(Path(path))
    except _DAMAGED:
        return None


def _save(
    path: Path, arrays: Mapping[str, Array | None], facts: Mapping[str, Any], lasting: bool = False
) -> None:
    """A file that is either whole or not there; a `lasting` one survives a loss of power."""
    there = {name: np.asarray(a, order="C") for name, a in arrays.items() if a is not None}
    there[FACTS] = np.frombuffer(json.dumps(dict(facts)).encode(), np.uint8)
    partial = path.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
    with disk_faults_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(with_checksum(safetensors.numpy.save(there)))
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _load(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    content = path.read_bytes()
    if with_checksum(content[:-4]) != content:
        raise StoreError(f"{path}: damaged; delete it, and the next build makes it again")
    arrays = safetensors.numpy.load(content[:-4])
    return arrays, json.loads(bytes(arrays.pop(FACTS)))


def scan_id_in(path: Path | str) -> str | None:
    """Whose scan a file of either kind says it is; None where it does not, or is damaged."""
    try:
        found = _load(Path(path))[1].get("scan_id")
    except _DAMAGED:
        return None
    return found if isinstance(found, str) else None
