"""A network that was trained, from the folder that its training left."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.store.reader import Store, open_store
from pipeline.training.config import load_config
from pipeline.training.run.checkpoints import BEST, read
from pipeline.training.run.results import CONFIG
from pipeline.training.system import Learner, Setting, System


def load_trained(
    system: System,
    out: Path | str,
    store: Store | Path | str,
    model: FlameModel,
    device: torch.device | str = "cpu",
) -> tuple[Setting, Learner]:
    """The learner with its best weights, in evaluation mode, and the setting that it has been
    trained in; `store` and `model` are those that it was trained with.

    Raises FacefoldError for a folder without weights or with those of another system or model.
    """
    out = Path(out)
    found = read(out / BEST)
    if found is None:
        raise FacefoldError(f"{out / BEST}: is not there, expected the weights of a training")
    for what, own in (("system", system.title), ("model", model.digest)):
        if (held := found["of"][what]) != own:
            raise FacefoldError(f"{out / BEST}: of the {what} {held}, expected {own}; name that")
    opened = store if isinstance(store, Store) else open_store(store)
    config = load_config(out / CONFIG, system.config)
    setting = Setting(opened, model, config, torch.device(device))
    learner = system.learner(setting).to(setting.device)
    learner.load_state_dict(found["learner"])
    return setting, learner.eval()
