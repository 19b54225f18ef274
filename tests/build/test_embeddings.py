"""Embeddings of views: results of their own, by the user's network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cluster.views import embed_scans
from pipeline.build.config import BuildConfig
from pipeline.build.embeddings import embedded, network_of, without_embeddings
from pipeline.build.result_files import (
    ScanViews,
    embeddings_path,
    load_view_arrays,
    save_views,
    scan_id_in,
    views_path,
)
from pipeline.build.tally import Tally
from pipeline.errors import RegistryError
from pipeline.types import Array
from pipeline.views.embedding import load_embedder
from tests.small_build import build_of, write_source
from tests.views.onnx_files import write_network

pytest.importorskip("onnxruntime", reason="pip install 'facefold[embeddings]'")

WEIGHTS = np.random.default_rng(0).standard_normal((12, 512)).astype(np.float32)
MIDDLE = {"mean": 0.0, "scale": 255.0}
"""So that the network makes only zeros of a black picture."""


def build(folder: Path, **fields: Any) -> BuildConfig:
    write_source(folder, "lab", "p1_neutral.obj", landmarks="none")
    write_network(folder / "net.onnx", fields.pop("weights", WEIGHTS))
    return build_of(folder, "lab", embedding_model="net.onnx", **fields)


def made(config: BuildConfig, key: str = "ab", scan_id: str = "lab:p1") -> Array:
    """The aligned pictures of two views, of which the second is black."""
    aligned = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    aligned[1] = 0
    save_views(views_path(config.work, key), scan_id, {"aligned_images": aligned})
    return aligned


VIEWS = {
    "lab:p1": ScanViews("ab", ({"view": "photo0"}, {"view": "render0"})),
    "lab:p2": ScanViews("cd", (), ({"view": "photo0"},)),
}


def test_each_view_has_its_embedding_and_a_black_one_has_none(tmp_path: Path) -> None:
    config = build(tmp_path, embedding_input=MIDDLE)
    aligned = made(config)
    views = embedded(config, VIEWS)
    assert views["lab:p2"] == VIEWS["lab:p2"]  # there is nothing to see
    todo = without_embeddings(views, config.work)
    assert [one.scan_id for one in todo] == ["lab:p1"]
    seen = Tally()
    embed_scans(todo, config, lambda: pytest.fail("a few need no workers"), seen)
    assert (seen.name, seen.done) == ("embedding views", 1)
    path = embeddings_path(config.work, views["lab:p1"].embedding_key)
    found = load_view_arrays(path)["embeddings"]
    network = network_of(config)
    assert network is not None and scan_id_in(path) == "lab:p1"
    assert (found[0] == load_embedder(network).embeddings(aligned[:1])[0]).all()
    assert found.shape == (2, 512) and np.isnan(found[1]).all()
    assert without_embeddings(views, config.work) == []
    assert not (config.work / "shared").exists()


def test_another_network_is_asked_again_and_renders_nothing(tmp_path: Path) -> None:
    def key(**fields: Any) -> str:
        return embedded(build(tmp_path, **fields), VIEWS)["lab:p1"].embedding_key

    keys = [
        key(),
        key(embedding_input={"channels": "bgr"}),
        key(embedding_input={"mean": [1, 2, 3]}),
        key(weights=2 * WEIGHTS),
    ]
    assert len({*keys}) == 4 and key() == keys[0]
    plain = build_of(tmp_path, "lab")
    assert embedded(plain, VIEWS) == VIEWS and network_of(plain) is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"embedding_input": {"size_px": 224}}, "embedding_input.size_px: got 224"),
        ({"embedding_input": {"channels": "grb"}}, 'embedding_input.channels: got "grb"'),
        ({"embedding_input": {"scale": 0}}, "embedding_input.scale: got 0"),
        ({"embedding_model": "none.onnx"}, "embedding_model: got .*none.onnx"),
    ],
)
def test_what_is_wrong_with_a_network_is_said_before_work(
    tmp_path: Path, fields: dict[str, Any], fault: str
) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj", landmarks="none")
    with pytest.raises(RegistryError, match=fault):
        build_of(tmp_path, "lab", **fields)
