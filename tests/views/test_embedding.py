"""Embeddings: what a small network computes, and networks that do not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import write_network

from pipeline.errors import FacefoldError, MachineError, ModelError
from pipeline.types import Array
from pipeline.views.embedding import EMBEDDING, EmbeddingNetwork, load_embedder

pytest.importorskip("onnxruntime", reason="pip install 'facefold[embeddings]'")

WEIGHTS = np.random.default_rng(0).standard_normal((12, EMBEDDING)).astype(np.float32)


def pictures(n: int) -> Array:
    return np.random.default_rng(1).integers(0, 256, (n, 112, 112, 3), dtype=np.uint8)


def expected(aligned: Array, mean: Array, scale: Array, order: slice = slice(None)) -> Array:
    """The small network's result, computed in float64."""
    blob = (aligned[..., order].astype(np.float64) - mean) / scale
    means = blob.reshape(-1, 2, 56, 2, 56, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    found = means.reshape(len(aligned), 12) @ WEIGHTS
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.mark.parametrize("shape", [["N", 3, 112, 112], [1, 3, 112, 112], ["N", 112, 112, 3]])
def test_the_network_gets_what_it_declares(tmp_path: Path, shape: list[int | str]) -> None:
    path = write_network(tmp_path / "net.onnx", WEIGHTS, shape)
    aligned = pictures(3)
    found = load_embedder(EmbeddingNetwork(path)).embeddings(aligned)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    centre = np.full(3, 127.5)
    np.testing.assert_allclose(found, expected(aligned, centre, centre), atol=1e-5)
    mean, scale = (104.0, 117.0, 123.0), (57.0, 58.0, 59.0)
    declared = EmbeddingNetwork(path, "bgr", mean, scale)
    found = load_embedder(declared).embeddings(aligned)
    wanted = expected(aligned, np.array(mean), np.array(scale), slice(None, None, -1))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_pictures_embedding_is_the_same_whatever_is_beside_it(tmp_path: Path) -> None:
    embedder = load_embedder(EmbeddingNetwork(write_network(tmp_path / "net.onnx", WEIGHTS)))
    aligned = pictures(5)
    together = embedder.embeddings(aligned)
    for row in range(5):
        assert (embedder.embeddings(aligned[row : row + 1]) == together[row]).all()
    again = load_embedder(embedder.network, threads=2)
    assert (again.embeddings(aligned) == together).all()
    assert embedder.embeddings(aligned[:0]).shape == (0, EMBEDDING)


@pytest.mark.parametrize(
    ("shape", "width", "said"),
    [
        (["N", 3, 128, 128], EMBEDDING, r"x tensor\(float\) \['N', 3, 128, 128\], expected one of"),
        (["N", 1, 112, 112], EMBEDDING, "Incompatible dimensions"),
        ([4, 3, 112, 112], EMBEDDING, "a batch that is free or 1"),
        (["N", 3, 112, 112], 128, r"gives float32 \(1, 128\) for a picture, expected"),
    ],
)
def test_a_network_of_other_sizes_is_refused(
    tmp_path: Path, shape: list[int | str], width: int, said: str
) -> None:
    path = write_network(tmp_path / "net.onnx", WEIGHTS[:, :width], shape, [shape[0], width])
    with pytest.raises(ModelError, match=said):
        load_embedder(EmbeddingNetwork(path))


@pytest.mark.parametrize("content", [b"<html></html>", b"", b"\x08\x08"])
def test_what_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no usable ONNX network"):
        load_embedder(EmbeddingNetwork(path))
    with pytest.raises(ModelError, match="no such file"):
        load_embedder(EmbeddingNetwork(tmp_path / "none.onnx"))


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_pictures_without_an_embedding_are_named(tmp_path: Path, wrong: float) -> None:
    path = write_network(tmp_path / "net.onnx", np.full_like(WEIGHTS, wrong))
    with pytest.raises(FacefoldError, match="for 2 of 2 pictures, the first are rows 0, 1") as no:
        load_embedder(EmbeddingNetwork(path)).embeddings(pictures(2))
    assert no.value.figures == {"rows": [0, 1]}


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    embedder = load_embedder(EmbeddingNetwork(write_network(tmp_path / "net.onnx", WEIGHTS)))
    with pytest.raises(ValueError, match="aligned: got shape"):
        embedder.embeddings(np.zeros((2, 224, 224, 3), np.uint8))


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"pip install 'facefold\[embeddings\]'"):
        load_embedder(EmbeddingNetwork(tmp_path / "net.onnx"))
