"""Checkpoints: whole or not there, and refused by a run that they do not belong to."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import FacefoldError, StoreError
from pipeline.store.durable_files import write_file
from pipeline.store.head import current_version
from pipeline.store.locks import alone
from pipeline.store.reader import Store, open_store
from pipeline.training.run.processes import rank
from pipeline.training.run.steps import Parts
from pipeline.training.system import Setting, System

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
FAULTS = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError)
"""What torch raises for bytes that it has not written, or not all of which are there."""
FREE = ("steps", "validate_every", "save_every", "report_every", "threads")
"""Keys of a configuration that may change between a stop and a resume."""


@contextmanager
def only_training(out: Path) -> Iterator[None]:
    """One training at a time in a folder, which is made. Raises FacefoldError where another goes
    on."""
    if rank() != 0:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another training is at work there; wait for its end, or name another --out"
    with alone(out / ".training", busy):
        yield


def belonging(system: System, setting: Setting) -> dict[str, Any]:
    """What a checkpoint is of."""
    return {
        "system": system.title,
        "config": setting.config.model_dump(mode="json"),
        "store version": setting.store.version,
        "model": setting.model.digest,
    }


def write(path: Path, parts: Parts, content: Mapping[str, Any]) -> None:
    """Whole or not at all. Raises StoreError on a full, read-only or failing disk."""
    buffer = io.BytesIO()
    torch.save({"of": belonging(parts.system, parts.setting), **content}, buffer)
    write_file(path, buffer.getbuffer())


def read(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises FacefoldError for a file that is no checkpoint."""
    if not path.exists():
        return None
    content = io.BytesIO(path.read_bytes())
    try:
        found: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        return {"of": found["of"], **found}
    except FAULTS as error:
        raise FacefoldError(
            f"{path}: no checkpoint of facefold, or a damaged one ({error}); restore it, or remove "
            "it to begin again"
        ) from error


def with_the_store_of(found: Mapping[str, Any] | None, setting: Setting) -> Setting:
    """The setting, of the version of the store that the checkpoint was made with.

    Another version is opened where HEAD has moved since. Raises StoreError where that is gone, or
    where another was named.
    """
    if found is None or (version := found["of"]["store version"]) == setting.store.version:
        return setting
    return replace(setting, store=_version(setting.store, version))


def _version(store: Store, version: str) -> Store:
    place = store.path.parent / version
    begun = f"the checkpoint is of version {version} of its store"
    if not place.is_dir():
        raise StoreError(
            f"{store.path}: {begun}, which is not beside this one: it was pruned, or the store is "
            "another; restore the version, or name another --out to begin again"
        )
    if current_version(store.path.parents[1]) != store.path:
        raise StoreError(f"{store.path}: {begun}; name {place}, or another --out to begin again")
    return open_store(place)


def check_belonging(path: Path, found: Mapping[str, Any], system: System, setting: Setting) -> None:
    """Raises FacefoldError, saying what differs, for a checkpoint of another training."""
    own = belonging(system, setting)
    differences = [
        f"{name}: {here} here, {there} there"
        for name, here, there in _differences(own, found["of"])
        if name.removeprefix("config.") not in FREE
    ]
    if differences:
        raise FacefoldError(
            f"{path}: the checkpoint of another training ({'; '.join(differences)}); undo the "
            f"change, or name another --out; only {', '.join(FREE)} may change"
        )


def _differences(here: Any, there: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in [*here, *(key for key in there if key not in here)]:
            inner = f"{name}.{key}" if name else key
            yield from _differences(here.get(key, "none"), there.get(key, "none"), inner)
    elif here != there:
        yield name, here, there
