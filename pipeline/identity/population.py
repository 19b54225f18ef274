"""How people differ, and how scans of one person do: what `plda.py` is applied to.

y_scan = y_person + session + own + offset(source): the person from N(μ, B), the session (weight,
age, a season's tan) from N(0, U), what one scan shows besides (an expression that the model cannot
make) from N(0, W) by class. A population, once used, is frozen: its digest goes into the keys of
what was decided with it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.geometry.mesh import vertex_normals
from pipeline.identity.calibration import Calibration
from pipeline.identity.plda import (
    Evidence,
    blurred,
    evidence_of,
    first_numbers,
    in_axes,
    shifted,
    times,
    together,
)
from pipeline.registration.fusion import displacements
from pipeline.registration.template import Template
from pipeline.types import Array, ExpressionClass, MarginalInformation

NUMBERS = 128
"""Of a person's numbers, from the best determined, that are compared; what the others have to do
with them counts as noise."""
SESSION_MM, SESSION_LENGTH_MM = 0.7, 22.0
"""Soft tissue between sessions: standard deviation along the normal, and how far it goes together.
Weight and age; bone (nose, eyes, forehead) has `BONE` of it."""
BONE = 0.3
BONES = ("nose", "eyes", "forehead", "scalp", "right_ear", "left_ear")
CENTRES = 120
"""Places of soft tissue."""
EXPRESSION, OWN_MM = 0.1, 0.1
"""What is left in a scan of its expression, as a share of the model's, and of everything, as a
length of field: in any scan; beside an expression EXPRESSION_OWN times as much."""
EXPRESSION_OWN = 2.0
PROJECTED_MM = 0.5
"""Standard deviation a coordinate of the vertices that a shape is turned into numbers with."""
FORMAT = 1


@dataclass(frozen=True, eq=False)
class SeenScan:
    """A registered scan, as evidence of who it is of."""

    part: MarginalInformation
    source: str
    expression_class: str = ExpressionClass.NEUTRAL
    session: str = ""
    """Scans of one person and session share their soft tissue; "" is a session too."""

    @property
    def kind(self) -> str:
        return kind_of(self.expression_class)


def kind_of(expression_class: str) -> str:
    """The class of W that an `ExpressionClass` falls into: "neutral", or "expression" for all
    others and where nothing is known."""
    return "neutral" if expression_class == ExpressionClass.NEUTRAL else "expression"


def by_session(scans: Sequence[SeenScan]) -> list[list[SeenScan]]:
    """One person's scans, those of one session of a source together."""
    found: dict[tuple[str, str], list[SeenScan]] = {}
    for scan in scans:
        found.setdefault((scan.source, scan.session), []).append(scan)
    return list(found.values())


class Counts(NamedTuple):
    """What a population was estimated from; zeros for the default."""

    people: int = 0
    scans: int = 0
    repeated: int = 0
    """People with more than one scan."""
    sessions: int = 0
    """People with more than one session."""


NOBODY, UNMEASURED = Counts(), Calibration()


@dataclass(frozen=True, eq=False)
class Population:
    """Of the first d numbers of a `PersonSpace`; float64."""

    mean: Array  # (d,)
    between: Array  # (d,d) B
    session: Array  # (d,d) U
    within: Mapping[str, Array]  # (d,d) W by "neutral" and "expression"
    offsets: Mapping[str, Array]  # (d,) by source
    trust: float = 1.0
    """Times that scans' own information counts: below 1 where they are too sure of themselves."""
    counts: Counts = NOBODY
    calibration: Calibration = UNMEASURED

    @property
    def size(self) -> int:
        return len(self.mean)

    @cached_property
    def axes(self) -> Array:
        """(d,d): y = mean + axes x, x standard normal over people and independent in the sessions,
        those first that sessions and neutral scans disturb the least."""
        root = np.linalg.cholesky(self.between)
        own = self.session + self.within["neutral"]
        disturbed = np.linalg.solve(root, np.linalg.solve(root, own).T)
        vectors = np.linalg.eigh((disturbed + disturbed.T) / 2)[1]
        signs = np.where(vectors[np.abs(vectors).argmax(0), np.arange(self.size)] < 0, -1.0, 1.0)
        axes: Array = root @ (vectors * signs)
        return axes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all numbers."""
        found = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def evidence(self, scans: Sequence[SeenScan]) -> Evidence:
        """What a person's scans say of their x (`axes`).

        Raises FacefoldError without scans, or where they have fewer numbers than the population.
        """
        sessions = [
            blurred(together([self.of_session(scan) for scan in some]), self.session)
            for some in by_session(scans)
        ]
        return in_axes(together(sessions), self.axes, self.mean)

    def of_session(self, scan: SeenScan) -> Evidence:
        """What a scan says of its person as they were in its session."""
        seen = evidence_of(scan.part)
        if seen.size < self.size:
            raise FacefoldError(
                f"a scan with {seen.size} numbers of a person and a population of {self.size}: "
                "they are of two models; estimate the population anew (--recalibrate)"
            )
        offset = self.offsets.get(scan.source, np.zeros(self.size))
        first = times(first_numbers(seen, self.size), self.trust)
        return blurred(shifted(first, offset), self.within[scan.kind])

    def save(self, path: str | Path) -> None:
        """One file of plain arrays (npz)."""
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, format=np.array(FORMAT), **self._arrays())
        Path(path).write_bytes(stream.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Population:
        """Raises FacefoldError where the file is no population."""
        try:
            with np.load(Path(path), allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
        except (OSError, ValueError, EOFError) as fault:
            raise FacefoldError(
                f"{path}: no population ({fault}); estimate it anew (--recalibrate)"
            ) from fault
        needed = {
            "mean",
            "between",
            "session",
            "trust",
            "counts",
            "within/neutral",
            "within/expression",
        }
        if int(arrays.pop("format", np.array(0))) != FORMAT or not needed <= arrays.keys():
            raise FacefoldError(
                f"{path}: not a population of format {FORMAT}, but {', '.join(sorted(arrays))}; "
                "estimate it anew (--recalibrate)"
            )
        parts: dict[str, dict[str, Array]] = {"within": {}, "offset": {}}
        for name in [name for name in arrays if "/" in name]:
            kind, key = name.split("/", 1)
            parts[kind][key] = arrays.pop(name)
        counts, trust = Counts(*arrays.pop("counts").tolist()), float(arrays.pop("trust"))
        calibration = Calibration.of(arrays.pop("calibration"))
        return cls(
            **arrays,
            within=parts["within"],
            offsets=parts["offset"],
            trust=trust,
            counts=counts,
            calibration=calibration,
        )

    def _arrays(self) -> dict[str, Array]:
        return {
            "mean": self.mean,
            "between": self.between,
            "session": self.session,
            "trust": np.array(self.trust),
            "counts": np.array(self.counts, np.int64),
            "calibration": np.array(self.calibration, np.float64),
            **{f"within/{name}": array for name, array in self.within.items()},
            **{f"offset/{name}": array for name, array in self.offsets.items()},
        }

    @classmethod
    def default(cls, template: Template, modes: int, size: int = NUMBERS) -> Population:
        """Before any scan was seen, for any model: people as registration takes them, soft tissue
        of the template's own regions, the model's expressions.

        `modes` are those of the options that the scans were registered with.
        """
        tissue, moved = soft_tissue(template), expressions(template)
        soft = second_moment(numbers_of(template, modes, tissue)[:, :size])
        eye = np.eye(soft.shape[0])
        # any field of 1 mm is about a standard deviation of the small residual
        own = OWN_MM**2 * eye
        some = (
            second_moment(numbers_of(template, modes, moved)[:, :size]) if len(moved) else 4 * soft
        )
        within = {
            "neutral": (EXPRESSION / 3) ** 2 * some + own,
            "expression": EXPRESSION**2 * some + EXPRESSION_OWN**2 * own,
        }
        return cls(np.zeros(len(eye)), eye, SESSION_MM**2 * soft + own, within, {})


def second_moment(numbers: Array) -> Array:
    """(N,d) independent fields of unit weight -> (d,d) covariance of their sum."""
    return numbers.T @ numbers


def numbers_of(
    template: Template, modes: int, moved_mm: Array, known: Array | None = None
) -> Array:
    """(N,V,3) displacements of the template -> (N,m) numbers of a person that they look like.

    Ridge regression on the vertices that may carry data, those `known` (V,) where given; a rigid
    motion is free.
    """
    at = template.data.cpu().numpy()
    at = at if known is None else at[known[at]]
    moves = displacements(template, modes)[:, at].flatten(0, 1).double().cpu().numpy()
    rest = template.tensors.template[at].cpu().numpy()
    rest = rest - rest.mean(0)
    axes = np.eye(3)
    place = [np.tile(axis, (len(at), 1)) for axis in axes] + [np.cross(a, rest) for a in axes]
    rigid = np.stack([field.T.ravel() for field in place], 1)
    rigid /= np.linalg.norm(rigid, axis=0)
    wanted = moved_mm[:, at].transpose(2, 1, 0).reshape(len(moves), -1)
    both = np.concatenate([moves, wanted], 1)
    both -= rigid @ np.linalg.lstsq(rigid, both, rcond=None)[0]
    moves, wanted = both[:, : moves.shape[1]], both[:, moves.shape[1] :]
    normal = moves.T @ moves + PROJECTED_MM**2 * np.eye(moves.shape[1])
    found: Array = np.linalg.solve(normal, moves.T @ wanted).T
    return found


def soft_tissue(template: Template) -> Array:
    """(CENTRES,V,3) mm: fields along the normals whose squares add up to 1 on soft tissue."""
    rest = template.tensors.template.cpu()
    normals = vertex_normals(rest, template.faces.cpu()).numpy()
    soft = np.ones(len(rest))
    for name in BONES:
        soft[template.model.regions.get(name, np.zeros(0, np.int64))] = BONE
    face = rest[template.data.cpu()].numpy()
    centres = face[np.linspace(0, len(face) - 1, CENTRES).astype(int)]
    apart = np.linalg.norm(rest.numpy()[None] - centres[:, None], axis=2)
    lumps = np.exp(-((apart / SESSION_LENGTH_MM) ** 2))
    lumps *= soft / np.sqrt((lumps**2).sum(0).clip(1e-3))
    fields: Array = lumps[..., None] * normals
    return fields


def expressions(template: Template) -> Array:
    """(E,V,3) mm: the model's, each at one standard deviation."""
    found: Array = template.tensors.expression_basis.cpu().numpy()
    return found
