"""The open models of the shared data, and where a benchmark is told to look for them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel

MODELS = {"flame_ict": "flame_ict/flame_ict.npz", "bare": "flame/head_template.obj"}


def add_shared_data(parser: argparse.ArgumentParser) -> None:
    """--shared-data: by default $FACEFOLD_SHARED_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    default = Path(os.environ.get("FACEFOLD_SHARED_DATA", beside))
    parser.add_argument("--shared-data", type=Path, default=default, help="real scans and models")


def open_model(shared_data: Path, name: str) -> FlameModel:
    """A model of MODELS with FLAME's landmarks and regions."""
    flame = shared_data / "flame"
    return load_model(
        shared_data / MODELS[name], flame / "landmark_embedding.npy", flame / "FLAME_masks.pkl"
    )
