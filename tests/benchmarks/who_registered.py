"""The scans of `who_is_who.py` that are registered, kept in a file so that they are made once.

python tests/benchmarks/who_registered.py FILE [--family ict|second] [--people N] [--first SEED]
One more call goes on from where the last one ended.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from open_models import add_shared_data, open_model
from who_faces import CLASSES, SENSORS, Family, Shot, family_of, tissue_fields

from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions, register
from pipeline.types import Array, MarginalInformation

OPTIONS = RegistrationOptions()
BATCH = 6


class Registered(NamedTuple):
    """What is kept of a registered scan."""

    shot: Shot
    status: str
    part: MarginalInformation


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    family = family_of(arguments.family, arguments.shared_data)
    model = open_model(arguments.shared_data, "flame_ict")
    fields = tissue_fields(family)
    began = time.monotonic()
    for shots in missing(arguments.file, shots_of(arguments.first, arguments.people)):
        found = registered(family, fields, model, shots)
        save(arguments.file, [*load(arguments.file), *found])
        if time.monotonic() - began > arguments.seconds:
            break
    print(f"{len(load(arguments.file))} scans in {arguments.file}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--family", choices=("ict", "second"), default="ict")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--first", type=int, default=81_000, help="the first person's seed")
    parser.add_argument("--seconds", type=float, default=480, help="no further batch after these")
    add_shared_data(parser)
    return parser.parse_args()


def shots_of(first: int, people: int) -> list[Shot]:
    """Six scans a person: neutral and with an expression in two sessions, half a face, a crop."""
    sensors = [*SENSORS]
    plan = (("neutral", 0), ("expression", 0), ("neutral", 1), ("expression", 1))
    shots = []
    for person in range(first, first + people):
        for i, (kind, session) in enumerate((*plan, ("half face", 0), ("60 mm crop", 1))):
            shots.append(Shot(person, session, kind, sensors[(person + i + i // 4) % 4]))
    return shots


def missing(file: Path, shots: Sequence[Shot]) -> list[list[Shot]]:
    have = {one.shot for one in load(file)}
    left = [shot for shot in shots if shot not in have]
    return [left[i : i + BATCH] for i in range(0, len(left), BATCH)]


def registered(
    family: Family, fields: Array, model: FlameModel, shots: Sequence[Shot]
) -> list[Registered]:
    """Scans that fail are kept with nothing seen."""
    results = register([shot.case(family, fields).scan for shot in shots], model, OPTIONS)
    found = []
    for shot, result in zip(shots, results, strict=True):
        part = result.marginal
        if part is None or result.status == "failed":
            part = nothing(320)
        found.append(Registered(shot, result.status, part))
    return found


def nothing(m: int) -> MarginalInformation:
    triangle = np.zeros(m * (m + 1) // 2, np.float16)
    triangle[np.arange(m) * (np.arange(m) + 3) // 2] = 1
    return MarginalInformation(np.zeros(m, np.float32), triangle)


def save(file: Path, some: Sequence[Registered]) -> None:
    shots = [
        (s.person, s.session, CLASSES.index(s.kind), [*SENSORS].index(s.sensor)) for s, _, _ in some
    ]
    partial = file.with_suffix(".partial.npz")
    np.savez(
        partial,
        shots=np.array(shots),
        status=np.array([one.status for one in some]),
        means=np.stack([one.part.mean for one in some]),
        triangles=np.stack([one.part.triangle for one in some]),
    )
    partial.replace(file)


def load(file: Path) -> list[Registered]:
    if not file.exists():
        return []
    with np.load(file) as kept:
        arrays = [kept[name] for name in ("shots", "status", "means", "triangles")]
    sensors = [*SENSORS]
    return [
        Registered(
            Shot(int(p), int(s), CLASSES[k], sensors[n]), str(status), MarginalInformation(*part)
        )
        for (p, s, k, n), status, *part in zip(*arrays, strict=True)
    ]


if __name__ == "__main__":
    main()
