"""Registration on a GPU: is it right, how long does a scan take, and where does the time go?

    tests/benchmarks/gpu.sh [--quick] [--json] [--scans N] [--device cpu]

Scans of the stand-in with known truth are registered one by one on the CPU and as one batch on the
device. Right is what lies within LIMIT_MM of the CPU's result; a fault ends with status 1. Where
there is no GPU, `--device cpu` runs the same program. Needs torch, numpy and scipy, nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pipeline.registration.methods as methods
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.geometry.mesh import vertex_normals
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.template import prepare_template
from pipeline.types import Array, Registration, Scan

registering = import_module("pipeline.registration.register")  # whose name its function has
LIMIT_MM = 0.1
"""Farthest that a vertex with data may lie from the CPU's result. What is expected of a result's
error is several times as much."""
NOISE_MM = 0.1
STAGES = (
    (registering, "landmark_targets", "start"),
    (registering, "start_of", "start"),
    (methods, "fit_model", "model"),
    (methods, "fit_with_residual", "residual"),
    (methods, "fit_fine", "fine"),
    (methods, "unfold", "folds"),
    (methods, "keep_rigid", "folds"),
    (methods, "expected_error", "expected error"),
    (registering, "judge", "judge"),
)
"""Functions of a registration, by the stage that their time is counted for."""
WAITING = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal")
"""Operators whose result the host has to wait for, in part of their names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 scans")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--scans", type=int, default=64)
    parser.add_argument("--device", default="cuda", help="a device of torch: cuda, cuda:1, cpu")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} sees no GPU here; --device cpu runs the same program",
            file=sys.stderr,
        )
        sys.exit(2)
    found = run(4 if arguments.quick else arguments.scans, torch.device(arguments.device))
    print(json.dumps(found) if arguments.json else "\n".join(lines(found)))
    sys.exit(0 if found["right"] else 1)


def run(n: int, device: torch.device) -> dict[str, Any]:
    model, options = stand_in(), RegistrationOptions()
    scans, truths = zip(*(made(model, seed) for seed in range(n)), strict=True)
    for each in ("cpu", device):
        prepare_template(model, each, options.modes)
    began = time.perf_counter()
    wanted = register(scans, model, options, "cpu")
    cpu_s = time.perf_counter() - began
    register(scans[:2], model, options, device)  # libraries are loaded, kernels chosen
    clock = Clock(device)
    with clock.stages():
        got = register(scans, model, options, device)
    device_s = clock.ended()
    counts = counted(scans, model, options, device)
    apart = [differences(*pair, truth) for *pair, truth in zip(wanted, got, truths, strict=True)]
    right = all(row["same_status"] and row["largest_mm"] <= LIMIT_MM for row in apart)
    return {
        "machine": machine(device),
        "scans": n,
        "vertices_a_scan": int(np.mean([len(scan.vertices_mm) for scan in scans])),
        "right": right,
        "largest_difference_mm": max(row["largest_mm"] for row in apart),
        "median_difference_mm": float(np.median([row["median_mm"] for row in apart])),
        "same_status": sum(row["same_status"] for row in apart),
        "error_cpu_mm": float(np.mean([row["error_cpu_mm"] for row in apart])),
        "error_device_mm": float(np.mean([row["error_device_mm"] for row in apart])),
        "cpu_s_a_scan": cpu_s / n,
        "device_s_a_scan": device_s / n,
        "share": {name: s / device_s for name, s in clock.seconds.items()},
        "memory_gb": memory_gb(device),
        **counts,
    }


def made(model: FlameModel, seed: int) -> tuple[Scan, Array]:
    """A scan of the model with an identity and an open mouth of its own, and the true vertices."""
    rng = np.random.default_rng(seed)
    shape = np.zeros((1, model.shape_basis_mm.shape[2]))
    shape[0, :30] = 0.8 * rng.normal(size=30)
    pose = np.zeros((1, 15))
    pose[0, 6] = rng.uniform(0, 0.3)
    given = [torch.from_numpy(x) for x in (shape, np.zeros((1, 1)), pose, np.zeros((1, 3)))]
    truth = pose_vertices(to_tensors(model, dtype=torch.float64), *given)[0].numpy()
    faces = model.faces[~np.isin(model.faces, model.regions["eyeballs"]).any(axis=1)]
    faces = faces[(truth[faces][..., 2] > truth[:, 2].mean() - 40).all(axis=1)]
    vertices, faces = divided(*divided(truth, faces, rng), rng)
    used, faces = np.unique(faces, return_inverse=True)
    vertices = vertices[used] + rng.normal(scale=NOISE_MM, size=(len(used), 3))
    faces = faces.reshape(-1, 3)
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    assert model.landmarks is not None
    marks = np.full((68, 3), np.nan)
    marks[model.landmarks.indices_68] = model.landmarks.positions(truth, model.faces)
    return (
        Scan(
            scan_id=f"gpu:{seed}",
            vertices_mm=vertices,
            faces=faces,
            normals=normals,
            source_to_canonical=np.eye(4),
            unit="mm",
            unit_factor_mm=1.0,
            unit_evidence="made in millimetres",
            landmarks_mm=marks,
            landmark_scheme="ibug68",
            landmark_confidence=np.isfinite(marks).all(axis=1),
            landmark_source="file",
        ),
        truth,
    )


def divided(vertices: Array, faces: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each triangle cut into three at a random point within."""
    weights = rng.dirichlet((4.0, 4.0, 4.0), size=len(faces))
    inside = np.einsum("fk,fkd->fd", weights, vertices[faces])
    a, b, c = faces.T
    d = len(vertices) + np.arange(len(faces))
    parts = [np.stack(corners, axis=1) for corners in ((a, b, d), (b, c, d), (c, a, d))]
    return np.concatenate([vertices, inside]), np.concatenate(parts)


def differences(cpu: Registration, device: Registration, truth: Array) -> dict[str, Any]:
    """How far the two lie apart where there is data, and both from the truth."""
    seen = cpu.validity
    apart = np.linalg.norm(device.vertices_mm - cpu.vertices_mm, axis=1)[seen]
    errors = (np.linalg.norm(r.vertices_mm - truth, axis=1)[seen].mean() for r in (cpu, device))
    return {
        "same_status": cpu.status == device.status != "failed",
        "largest_mm": float(apart.max(initial=0.0)),
        "median_mm": float(np.median(apart)) if len(apart) else 0.0,
        **dict(zip(("error_cpu_mm", "error_device_mm"), map(float, errors), strict=True)),
    }


class Clock:
    """Seconds by stage of what runs within `stages`, the device waited for at each end."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: Counter[str] = Counter()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def stages(self) -> Iterator[None]:
        with within_stages(self._timed):
            self.began = self.now()
            yield

    def ended(self) -> float:
        """Seconds since `stages` began; what is of no stage becomes "other"."""
        whole = self.now() - self.began
        self.seconds["other"] = whole - self.seconds.total()
        return whole

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = self.now()
        yield
        self.seconds[stage] += self.now() - began


@contextmanager
def within_stages(around: Callable[[str], Any]) -> Iterator[None]:
    """Each function of STAGES runs within `around` of its stage."""

    def wrapped(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with around(stage):
                return function(*arguments, **options)

        return call

    with ExitStack() as stack:
        for module, name, stage in STAGES:
            call = wrapped(getattr(module, name), stage)
            stack.enter_context(patch.object(module, name, call))
        yield


class Operators(TorchDispatchMode):
    """Counts the operators that torch runs, each of them a launch or more on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = "other"
        self.launched: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").split(".")[0]
        copied = name == "_to_copy" and args[0].device.type != result.device.type == "cpu"
        self.launched[self.stage] += 1
        self.waited[self.stage] += copied or any(part in name for part in WAITING)
        return result

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        before, self.stage = self.stage, stage
        yield
        self.stage = before


def counted(
    scans: Sequence[Scan], model: FlameModel, options: RegistrationOptions, device: torch.device
) -> dict[str, Any]:
    """Operators by stage, and those of them that make the host wait, of two scans as one batch: on
    a GPU a batch of any size takes as many, but for the start and the search structures."""
    template = prepare_template(model, device, options.modes)
    operators = Operators()
    with within_stages(operators.at), operators:
        registering.register_batch(template, scans[:2], [None, None], [0, 1], options)
    return {"operators": dict(operators.launched), "waits": dict(+operators.waited)}


def memory_gb(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def machine(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": f"{device.type} {name}".strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    said = "right" if found["right"] else "WRONG"
    yield ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    yield (
        f"{said}: {found['same_status']} of {found['scans']} scans end as on the CPU; vertices "
        f"with data are at most {found['largest_difference_mm']:.4f} mm apart (limit {LIMIT_MM}), "
        f"median {found['median_difference_mm']:.5f}"
    )
    yield (
        f"error against the truth: {found['error_device_mm']:.3f} mm, "
        f"on the CPU {found['error_cpu_mm']:.3f} mm"
    )
    yield (
        f"seconds a scan of {found['vertices_a_scan']} vertices: {found['device_s_a_scan']:.3f}, "
        f"on the CPU {found['cpu_s_a_scan']:.3f}"
    )
    if found["memory_gb"] is not None:
        yield f"memory of the device: {found['memory_gb']:.2f} GB"
    yield f"{'stage':16}{'share':>8}{'operators':>11}{'waits':>7}"
    for stage in sorted(found["operators"] | found["share"]):
        share, count = found["share"].get(stage, 0.0), found["operators"].get(stage, 0)
        yield f"{stage:16}{share:8.1%}{count:11}{found['waits'].get(stage, 0):7}"


if __name__ == "__main__":
    main()
