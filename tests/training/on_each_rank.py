"""Under torchrun: trains the toy without figures, so that each process ends with its own weights.

python -m torch.distributed.run … tests/training/on_each_rank.py STORE OUT SECONDS KEYS
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.flame.assets import load_model
from pipeline.store.reader import open_store
from pipeline.training.run.loop import train
from pipeline.training.run.processes import joined, rank
from pipeline.training.system import Setting
from tests.training.toy import SYSTEM, ToyConfig


def main() -> None:
    store, out, steps, keys = sys.argv[1:]
    config = ToyConfig.model_validate(json.loads(keys))
    left = int(steps)
    unmeasured = replace(SYSTEM, measure=lambda *_: {"shape_rms": math.nan})
    with joined("cpu") as device:
        setting = Setting(open_store(store), load_model(), config, device)

        def stopped() -> bool:
            nonlocal left
            left -= 1
            return left <= 0

        found = train(unmeasured, setting, Path(out), stopped=stopped)
        torch.save(found.learner.state_dict(), Path(out) / f"rank{rank()}.pt")
    # one that outlives its group may abort the interpreter when it ends
    assert not [name for name in threads() if "gloo" in name]


def threads() -> list[str]:
    """Names of this process's threads, where Linux lists them."""
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main()
