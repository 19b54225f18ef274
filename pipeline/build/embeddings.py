"""Embeddings of views by the user's own network, as results of their own: another network renders
nothing again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.build.code_keys import stage_code
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import digest_of
from pipeline.build.result_files import (
    ScanViews,
    embeddings_path,
    load_view_arrays,
    save_views,
    views_path,
)
from pipeline.errors import FacefoldError
from pipeline.store.checksums import file_digest
from pipeline.types import Array
from pipeline.views.embedding import EMBEDDING, Embedder, EmbeddingNetwork, load_embedder


class Unembedded(NamedTuple):
    """A scan whose views have no embeddings yet."""

    scan_id: str
    key: str
    """Of its views."""
    embedding_key: str


def network_of(config: BuildConfig) -> EmbeddingNetwork | None:
    """The network that a build file names, if it does."""
    if config.embedding_model is None:
        return None
    said = config.embedding_input
    return EmbeddingNetwork(config.embedding_model, said.channels, said.mean, said.scale)


def embedded(config: BuildConfig, views: Mapping[str, ScanViews]) -> dict[str, ScanViews]:
    """The views, by scan id, with the keys of their embeddings if a network is named."""
    if (network := network_of(config)) is None:
        return dict(views)
    status = network.path.stat()
    facts = asdict(network) | {"path": _sha256(network.path, status.st_size, status.st_mtime_ns)}
    facts["onnxruntime"] = version("onnxruntime")
    shared = digest_of("embeddings", facts, stage_code("embed"))
    return {
        scan_id: one._replace(embedding_key=digest_of(one.key, shared)) if one.rows else one
        for scan_id, one in views.items()
    }


@lru_cache(maxsize=4)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return file_digest(path)


def without_embeddings(views: Mapping[str, ScanViews], work: Path) -> list[Unembedded]:
    """The scans whose embeddings have to be made; `views`, by scan id, are those of `embedded`."""
    return [
        Unembedded(scan_id, one.key, one.embedding_key)
        for scan_id, one in views.items()
        if one.embedding_key and not embeddings_path(work, one.embedding_key).exists()
    ]


def embed_views(scans: Iterable[Unembedded], work: Path, network: EmbeddingNetwork) -> None:
    """Leaves the embeddings of the views of scans in the work folder; NaN for pictures that the
    network makes nothing of.

    Raises MachineError and ModelError as `load_embedder`.
    """
    embedder = _loaded(network)
    for scan in scans:
        aligned = load_view_arrays(views_path(work, scan.key))["aligned_images"]
        rows = np.concatenate([_embedding(embedder, picture[None]) for picture in aligned])
        path = embeddings_path(work, scan.embedding_key)
        save_views(path, scan.scan_id, {"embeddings": rows})


_loaded = lru_cache(maxsize=1)(load_embedder)


def _embedding(embedder: Embedder, aligned: Array) -> Array:
    """Of one picture (1,112,112,3)."""
    try:
        return embedder.embeddings(aligned)
    except FacefoldError as error:
        if "rows" not in error.figures:
            raise
        return np.full((1, EMBEDDING), np.nan, np.float32)
