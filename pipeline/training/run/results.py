"""What a training leaves beside its checkpoints: configuration, figures, pictures."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import yaml

from pipeline.store.durable_files import write_file
from pipeline.training.config import TrainingConfig
from pipeline.training.run.curve_picture import save_curves
from pipeline.training.run.processes import world
from pipeline.training.run.progress import Trained
from pipeline.training.system import Measured, System

CONFIG, RESULT = "config.yaml", "result.json"
CURVE_PICTURE, EXAMPLES = "curves.png", "examples.png"


def config_digest(config: TrainingConfig) -> str:
    """SHA-256 of all that it says."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_config(out: Path, config: TrainingConfig) -> None:
    """Every key, defaults too: a file for --config."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_file(out / CONFIG, text.encode())


def result_of(system: System, trained: Trained) -> dict[str, Any]:
    """As JSON has it."""
    setting = trained.setting
    return {
        "system": system.title,
        "steps": trained.step,
        "finished": trained.finished,
        "best_step": trained.best_step,
        "best_by": system.best_by,
        "figures": _json(trained.figures),
        "seconds": round(trained.seconds, 1),
        "samples_per_second": round(trained.samples_per_second, 1),
        "processes": world(),
        "device": str(setting.device),
        "store": str(setting.store.path),
        "store_version": setting.store.version,
        "model": setting.model.digest,
        "config_digest": config_digest(setting.config),
    }


def _json(figures: Measured) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def write_result(system: System, trained: Trained, out: Path) -> None:
    """result.json, curves.png and, once all steps are done, examples.png."""
    content = json.dumps(result_of(system, trained), indent=2, ensure_ascii=False) + "\n"
    write_file(out / RESULT, content.encode())
    save_curves(out / CURVE_PICTURE, trained.history, system.title, trained.best_step)
    if system.picture is not None and trained.finished:
        split = trained.setting.config.validation_split
        system.picture(trained.learner, trained.setting, split, out / EXAMPLES)
