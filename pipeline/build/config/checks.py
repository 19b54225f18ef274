"""What is wrong with a build file whose fields are each sound."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.build.config.model import BuildConfig
from pipeline.errors import RegistryError, StoreError
from pipeline.flame.named import MODEL_VARIABLE, STAND_IN, model_path
from pipeline.identity.splits import strictest_first
from pipeline.registry import SourceRegistry, load_profile, load_registry
from pipeline.store.remote.objects import Place
from pipeline.text import redacted


def faults_of(config: BuildConfig) -> Iterator[str]:
    """Each such fault, as `field: got X, expected Y`."""
    registries: dict[int, SourceRegistry] = {}
    for i, entry in enumerate(config.sources):
        try:
            registries[i] = load_registry(entry.registry)
        except RegistryError as error:
            yield from (f"sources.{i}.registry: {fault}" for fault in error.faults)
    ids = [registry.id for registry in registries.values()]
    for repeated in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"sources: got {repeated} {ids.count(repeated)} times, expected each source once"
    yield from _profile_faults(config)
    yield from _model_faults(config)
    yield from _place_faults(config)
    yield from _licence_faults(config, registries)
    if any(share < 0 for share in config.splits.values()) or not math.isclose(
        sum(config.splits.values()), 1.0, abs_tol=1e-6
    ):
        yield f"splits: got {dict(config.splits)}, expected shares ≥ 0 that add up to 1"


def _profile_faults(config: BuildConfig) -> Iterator[str]:
    try:
        profile = load_profile(config.profile)
    except RegistryError as error:
        yield from (f"profile: {fault}" for fault in error.faults)
        return
    known = strictest_first(config.splits)
    for source, said in profile.sources.items():
        if said.split is not None and said.split not in known:
            yield (
                f"profile: got the split {said.split} of {source} in {config.profile}, expected "
                f"one of {', '.join(known)}; or name it under `splits`"
            )


def _model_faults(config: BuildConfig) -> Iterator[str]:
    model = model_path(config.model)
    files = {
        "model" if config.model else MODEL_VARIABLE: model,
        "embedding": config.embedding,
        "embedding_model": config.embedding_model,
    }
    for field, file in files.items():
        if file is None or file == STAND_IN:
            continue
        try:
            file.open("rb").close()
        except OSError as error:
            yield (
                f"{field}: got {file} ({error.strerror}), expected a file that can be read; "
                "correct the path, or put the file there"
            )


def _place_faults(config: BuildConfig) -> Iterator[str]:
    """Of folders that are read, folders that are written, and those that would be both."""
    for i, entry in enumerate(config.sources):
        try:
            with os.scandir(entry.root) as listing:
                next(listing, None)
        except OSError as error:
            yield (
                f"sources.{i}.root: got {entry.root} ({error.strerror}), expected the folder of "
                "the source; mount the data or correct the root"
            )
    if config.store_url is not None:
        try:
            Place(config.store_url)
        except StoreError as error:
            yield f"store: {error}"
    written = {"store": config.store_folder, "work": config.work}
    if config.store_url is not None:
        del written["store"]
    elif _real(config.work).is_relative_to(_real(config.store_folder)):
        yield f"work: got {config.work}, expected a folder outside of the store"
    for field, folder in written.items():
        there = next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
        if fault := _impossible(folder):
            yield f"{field}: got {folder} ({fault}), expected a folder that can be made"
        elif not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            what = "which may not be written" if there.is_dir() else "which is a file"
            yield f"{field}: got {folder} in {there}, {what}; expected a folder that may be written"
        for i, entry in enumerate(config.sources):
            own, root = _real(folder), _real(entry.root)
            if own.is_relative_to(root) or root.is_relative_to(own):
                yield (
                    f"{field}: got {folder}, expected a folder apart from sources.{i}.root "
                    f"{entry.root}: neither may lie in the other"
                )


def _impossible(folder: Path) -> str:
    """Why there can be no such folder; "" where there is one, or may be."""
    try:
        folder.stat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return str(error.strerror)
    return ""


def _licence_faults(config: BuildConfig, registries: Mapping[int, SourceRegistry]) -> Iterator[str]:
    """A store in an object store has readers whom a source's agreement may not know."""
    if config.store_url is None:
        return
    for i, registry in registries.items():
        note = config.sources[i].licence_note
        if not registry.licence.redistribution and not (note and note.strip()):
            yield (
                f"sources.{i}.licence_note: got nothing, expected who may read "
                f"{redacted(config.store)} and by which agreement: {registry.id} "
                f"({registry.licence.name}, {registry.licence.url}) may not be passed on. "
                "Write it, or leave the source out"
            )


def _real(path: Path) -> Path:
    """The path without links, as far as they lead somewhere."""
    return Path(os.path.realpath(path))
