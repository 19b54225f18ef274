"""Coefficients of known heads found again (`pipeline.registration.refit`), against L-BFGS.

    python tests/benchmarks/refit.py [--quick] [--json] [--data FOLDER]

Heads are posed by coefficients drawn from a model, and their own: errors are those of the vertices
that the coefficients found make, and of coefficients in standard deviations. Milliseconds are of
one core's time a head. The peer minimises the same sum by torch's L-BFGS over all vertices, as
scripts that fit FLAME do.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from pipeline.flame.assets import load_model
from pipeline.flame.lbs import ModelTensors, pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.registration.gauss_newton.unknowns import expression_precision
from pipeline.registration.refit import USUAL_ERROR_MM, refit
from pipeline.registration.template import prepare_template
from pipeline.types import Array

BENT_RAD = 0.0, 0.06, 0.12, 0.12, 0.12
NOISE_MM = 0.3
STEPS = 60
"""Of L-BFGS."""


def heads(model: FlameModel, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Identity, expression and vertices (count,V,3) mm, turned by up to about 30°."""
    draw, tensors = torch.Generator().manual_seed(seed), to_tensors(model, "cpu", torch.float64)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    shape = normal(count, len(tensors.shape_basis))
    expression = 0.3 * normal(count, len(tensors.expression_basis))
    pose = normal(count, 5, 3) * torch.tensor(BENT_RAD, dtype=torch.float64)[:, None]
    pose[:, 0] = 0.3 * normal(count, 3)
    vertices = pose_vertices(tensors, shape, expression, pose.flatten(1), 50 * normal(count, 3))
    return shape.numpy(), expression.numpy(), vertices.float().numpy()


def cases(model: FlameModel, vertices: Array) -> dict[str, tuple[Array, Array]]:
    """Name -> vertices and validity."""
    rest, draw = model.template_mm, np.random.default_rng(0)
    every = np.ones(vertices.shape[:2], bool)
    half = every & (rest[:, 0] > 0) & (rest[:, 1] > rest[:, 1].mean() - 60)
    face = every.copy()
    face[:, np.setdiff1d(np.arange(len(rest)), model.regions["face"])] = False
    noisy = vertices + draw.normal(0, NOISE_MM, vertices.shape).astype(np.float32)
    return {
        "whole": (vertices, every),
        "noise 0.3 mm": (noisy, every),
        "face alone": (vertices, face),
        "half a face": (vertices, half),
        "70 % of vertices": (vertices, draw.random(every.shape) < 0.7),
    }


def posed(tensors: ModelTensors, *found: Array) -> Array:
    s, e = len(tensors.shape_basis), len(tensors.expression_basis)
    shape, expression, pose, place = (torch.from_numpy(x).to(tensors.template) for x in found)
    return pose_vertices(tensors, shape[:, :s], expression[:, :e], pose, place).numpy()


def lbfgs(model: FlameModel, vertices: Array, valid: Array) -> tuple[Array, ...]:
    """Coefficients of a batch by L-BFGS, from a rigid start at rest."""
    from pipeline.geometry.rigid import rotation_to_axis_angle, umeyama

    template, tensors = prepare_template(model, "cpu", 0), to_tensors(model)
    given, weight = torch.from_numpy(vertices), torch.from_numpy(valid).float()
    rest = tensors.template.expand_as(given)
    rotation, shift = umeyama(rest, given, weight)
    root = tensors.joint_regressor[0] @ tensors.template
    place = (rotation @ root[:, None])[..., 0] + shift - root
    b, s, e = len(given), len(tensors.shape_basis), len(tensors.expression_basis)
    start = [torch.zeros(b, s), torch.zeros(b, e), torch.zeros(b, 15), place]
    start[2][:, :3] = rotation_to_axis_angle(rotation)
    unknowns = [x.clone().requires_grad_() for x in start]
    precision = expression_precision(template)
    solver = torch.optim.LBFGS(unknowns, max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        off = (pose_vertices(tensors, *unknowns) - given).square().sum(-1)
        bent = unknowns[2][:, 3:].square().sum() / 0.1**2
        prior = unknowns[0].square().sum() + precision * unknowns[1].square().sum() + bent
        total = (weight * off).sum() / USUAL_ERROR_MM**2 + prior
        total.backward()
        return total

    solver.step(loss)
    return tuple(x.detach().numpy() for x in unknowns)


def best_ms(run: Callable[[], Any], times: int) -> float:
    """Of one core, least of some."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return 1000 * min(spent)


def row(model: FlameModel, name: str, count: int, times: int, seed: int) -> list[dict[str, Any]]:
    tensors = to_tensors(model, "cpu", torch.float64)
    shape, expression, vertices = heads(model, count, seed)
    rows = []
    for case, (given, valid) in cases(model, vertices).items():
        found = refit(given, valid, model)
        spent = best_ms(lambda g=given, v=valid: refit(g, v, model), times) / count  # type: ignore[misc]
        off = np.linalg.norm(posed(tensors, *found[:4]) - vertices, axis=2)
        few = min(20, shape.shape[1])
        rows.append(
            {
                "model": name,
                "case": case,
                "valid_rms_mm": float(np.sqrt(np.square(off[valid]).mean())),
                "valid_median_mm": float(np.median(off[valid])),
                "valid_p95_mm": float(np.quantile(off[valid], 0.95)),
                "all_median_mm": float(np.median(off)),
                "shape_rms": _rms(found.shape[:, : shape.shape[1]] - shape),
                "first_20_rms": _rms(found.shape[:, :few] - shape[:, :few]),
                "expression_rms": _rms(found.expression[:, : expression.shape[1]] - expression),
                "ms": spent,
            }
        )
    return rows


def against(model: FlameModel, name: str, seed: int) -> dict[str, Any]:
    """The peer on eight whole heads, and the ratios."""
    tensors = to_tensors(model, "cpu", torch.float64)
    _, _, vertices = heads(model, 8, seed)
    every = np.ones(vertices.shape[:2], bool)
    began = time.process_time()
    theirs = lbfgs(model, vertices, every)
    peer_ms = 1000 * (time.process_time() - began) / 8
    own = refit(vertices, every, model)
    off = [posed(tensors, *found) - vertices for found in (own[:4], theirs)]
    error = [_rms(np.linalg.norm(x, axis=2)) for x in off]
    ms = best_ms(lambda: refit(vertices, every, model), 2) / 8
    return {
        "model": name,
        "lbfgs_rms_mm": error[1],
        "own_rms_mm": error[0],
        "lbfgs_ms": peer_ms,
        "times_as_fast": peer_ms / ms,
    }


def _rms(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer heads")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data", type=Path, default=os.environ.get("FACEFOLD_SHARED_DATA"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    models = {"stand-in": stand_in()}
    if given.data:
        files = Path(given.data)
        embedding = files / "flame" / "landmark_embedding.npy"
        models["flame_ict"] = load_model(files / "flame_ict" / "flame_ict.npz", embedding)
    count, times = (64, 2) if given.quick else (256, 3)
    rows = [r for n, m in models.items() for r in row(m, n, count, times, given.seed)]
    peers = [against(m, n, given.seed) for n, m in models.items()]
    if given.json:
        print(json.dumps({"heads": count, "rows": rows, "peers": peers}))
        return
    for r in rows:
        print(
            f"{r['model']:10} {r['case']:17} valid rms {r['valid_rms_mm']:.3f} median "
            f"{r['valid_median_mm']:.3f} p95 {r['valid_p95_mm']:.3f} mm | all median "
            f"{r['all_median_mm']:.3f} mm | sd: shape {r['shape_rms']:.3f} first 20 "
            f"{r['first_20_rms']:.3f} expression {r['expression_rms']:.3f} | {r['ms']:.2f} ms"
        )
    for r in peers:
        print(
            f"{r['model']:10} L-BFGS, {STEPS} steps: rms {r['lbfgs_rms_mm']:.3f} mm in "
            f"{r['lbfgs_ms']:.0f} ms; ours {r['own_rms_mm']:.3f} mm, {r['times_as_fast']:.0f} × as "
            "fast"
        )


if __name__ == "__main__":
    main()
