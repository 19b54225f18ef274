"""Images keep every pixel's place; what is random in them is of seed, epoch and position alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from view_store import SHOWN, make_view_store

from pipeline.errors import FacefoldError
from pipeline.loaders import Draw, FaceDataset, FaceLoader
from pipeline.loaders.dataset import Sample
from pipeline.loaders.image_transforms import ArcFaceInput, ColourChange, RandomBackground
from pipeline.loaders.transforms import Chain

B = 6
RNG = np.random.default_rng(0)


def drawn(positions: Any, epoch: int = 1) -> Draw:
    return Draw(epoch, np.asarray(positions), np.asarray(positions))


DRAW = drawn(range(B))


@pytest.fixture(scope="module")
def batch() -> Sample:
    def random(*shape: int) -> torch.Tensor:
        return torch.from_numpy(RNG.integers(0, 256, shape, np.uint8))

    shaded = random(B, 224, 224)
    shaded[:, :60] = 0
    parts = torch.zeros(B, 8, 224, 224, dtype=torch.bool)
    parts[:, 7, 80:200, 40:180] = True
    parts[:, 2, 70:90, 50:90] = True
    images = {"images": random(B, 224, 224, 3), "aligned_images": random(B, 112, 112, 3)}
    return images | {"shaded_images": shaded, "parts": parts, "row": torch.arange(B)}


@pytest.mark.parametrize("mask", ["shaded_images", "parts"])
def test_backgrounds(batch: Sample, mask: Any) -> None:
    """The head is untouched; behind it is noise, or one colour."""
    before = batch["images"].clone()
    head = batch["shaded_images"] > 0 if mask == "shaded_images" else batch["parts"].any(1)
    kinds = []
    found = RandomBackground(0.5, mask, seed=3)(batch, DRAW)
    assert batch["images"].equal(before) and found["aligned_images"] is batch["aligned_images"]
    for new, old, seen in zip(found["images"], before, head, strict=True):
        assert new[seen].equal(old[seen])
        behind = new[~seen]
        kinds.append(bool((behind == behind[0]).all()))
        if not kinds[-1]:
            share = np.bincount(behind.numpy().ravel() // 32) / behind.numel()
            np.testing.assert_allclose(share, 1 / 8, atol=0.01)
            assert abs(np.corrcoef(behind.numpy().astype(float), rowvar=False)[0, 1]) < 0.05
    assert set(kinds) == {True, False}
    for noise, one_colour in ((0.0, True), (1.0, False)):
        new = RandomBackground(noise, mask)(batch, DRAW)["images"]
        for image, seen in zip(new, head, strict=True):
            assert bool((image[~seen] == image[~seen][0]).all()) == one_colour
    colours = RandomBackground(0.0, mask)(batch, DRAW)["images"][~head].unique(dim=0)
    assert len(colours) == B


def recoloured(image: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """By the definition, in float64."""
    saturation, contrast, brightness, red, green, blue, gamma = numbers
    x = image.astype(float)
    grey = x @ [0.299, 0.587, 0.114]
    x = grey[..., None] + saturation * (x - grey[..., None])
    x = (grey.mean() + contrast * (x - grey.mean())) * brightness * [red, green, blue]
    return 255 * (np.rint(x.clip(0, 255)) / 255) ** gamma


def test_colours(batch: Sample) -> None:
    before = {name: batch[name].clone() for name in ("images", "aligned_images")}
    change = ColourChange(0.3, 0.4, 0.5, 0.6, 0.1, seed=2)
    found = change(batch, DRAW)
    numbers = change._numbers(DRAW, batch["images"])
    spread = (0.5, 0.4, 0.3, 0.1, 0.1, 0.1)
    assert (abs(numbers[:, :6] - 1) <= spread).all() and (numbers[:, 6] <= 1.6).all()
    assert (numbers[:, 6] >= 1 / 1.6).all() and len(np.unique(numbers)) == numbers.size
    for name, given in before.items():
        assert batch[name].equal(given) and found[name].dtype == torch.uint8
        for new, old, some in zip(found[name].numpy(), given.numpy(), numbers, strict=True):
            off = abs(recoloured(old, some) - new)
            assert (off > 0.51).mean() < 1e-3 and off.max() < 12  # where float32 rounds otherwise
    assert found["parts"] is batch["parts"]
    still = ColourChange(0, 0, 0, 0, 0)(batch, DRAW)
    assert still["images"].equal(before["images"])


def test_one_kind_of_change_at_a_time(batch: Sample) -> None:
    grey = {"images": batch["images"][..., :1].expand(-1, -1, -1, 3).contiguous()}
    assert ColourChange(0, 0, 1, 0, 0)(grey, DRAW)["images"].equal(grey["images"])
    lighter = ColourChange(0, 0, 0, 0.5, 0)
    for new, old, numbers in zip(
        lighter(batch, DRAW)["images"], batch["images"], lighter._numbers(DRAW, batch["images"]),
        strict=True,
    ):  # fmt: skip
        assert bool((new <= old).all() if numbers[6] > 1 else (new >= old).all())
    flat = {"images": torch.full((B, 224, 224, 3), 90, dtype=torch.uint8)}
    assert ColourChange(0, 1, 1, 0, 0)(flat, DRAW)["images"].equal(flat["images"])


STEPS = (
    RandomBackground(0.5, seed=1),
    ColourChange(seed=2),
    RandomBackground(0.5, "parts", seed=4),
)


@pytest.mark.parametrize("step", STEPS)
def test_of_position_alone(batch: Sample, step: Any) -> None:
    """Whatever else is in the batch; others each epoch, by each seed, and of each view."""
    whole = step(batch, DRAW)["images"]
    some = [4, 1]
    part = {name: values[some] for name, values in batch.items()}
    assert step(part, drawn(some))["images"].equal(whole[some])
    same = {name: values[[0] * B] for name, values in batch.items()}
    images = step(same, DRAW)["images"]
    assert len(images.flatten(1).unique(dim=0)) == B
    for other in (step(same, drawn(range(B), epoch=2)), type(step)(seed=9)(same, DRAW)):
        assert not (other["images"] == images).flatten(1).all(1).any()
    pairs = {name: values.reshape(3, 2, *values.shape[1:]) for name, values in batch.items()}
    views = step(pairs, drawn([0, 1, 2]))["images"]
    assert views.shape == (3, 2, 224, 224, 3) and views.reshape(whole.shape).equal(whole)


def test_arcface_input(batch: Sample) -> None:
    blob = ArcFaceInput()(batch, DRAW)["arcface_input"]
    assert blob.shape == (B, 3, 112, 112) and blob.dtype == torch.float32 and blob.is_contiguous()
    wanted = (batch["aligned_images"].permute(0, 3, 1, 2).float() - 127.5) / 127.5
    assert blob.equal(wanted) and -1 <= blob.min() < -0.99
    assert ArcFaceInput("bgr")(batch, DRAW)["arcface_input"].equal(wanted[:, [2, 1, 0]])
    pairs = {"aligned_images": batch["aligned_images"].reshape(3, 2, 112, 112, 3)}
    assert ArcFaceInput()(pairs, DRAW)["arcface_input"].equal(wanted.reshape(3, 2, 3, 112, 112))
    assert batch["aligned_images"].dtype == torch.uint8


def test_in_a_loader(tmp_path: Path) -> None:
    """Ranks, threads and worker processes see the same images."""
    make_view_store(tmp_path)
    names = ("images", "aligned_images", "shaded_images", "row")
    dataset = FaceDataset(tmp_path, None, names, unit="view")
    step = Chain((RandomBackground(seed=1), ColourChange(seed=2), ArcFaceInput()))
    assert pickle.loads(pickle.dumps(step)) == step
    alone = [*FaceLoader(dataset, 6, seed=1, transform=step, threads=0)]
    for others in (
        FaceLoader(dataset, 6, seed=1, transform=step, threads=2),
        DataLoader(FaceLoader(dataset, 6, seed=1, transform=step), None, num_workers=2),
    ):
        for one, other in zip(alone, others, strict=True):
            assert one["images"].equal(other["images"])
            assert one["arcface_input"].equal(other["arcface_input"])
    rank = [*FaceLoader(dataset, 3, seed=1, transform=step, rank=1, world=2)]
    assert all(r["images"].equal(a["images"][3:]) for r, a in zip(rank, alone, strict=True))
    packed = FaceDataset(tmp_path, None, names, unit="view")[:]["images"]
    assert packed.numpy().tobytes() == SHOWN["images"].tobytes()  # the store is as it was


def test_what_cannot_be(batch: Sample) -> None:
    for wrong in (
        lambda: RandomBackground(1.5),
        lambda: RandomBackground(mask="hair"),  # type: ignore[arg-type]
        lambda: ColourChange(brightness=-0.1),
        lambda: ColourChange(gamma=float("nan")),
        lambda: ArcFaceInput("grey"),  # type: ignore[arg-type]
    ):
        with pytest.raises(FacefoldError, match=r"got .*, expected"):
            wrong()
    bare = {"images": batch["images"], "row": batch["row"]}
    with pytest.raises(FacefoldError, match="no shaded_images in the batch; ask the dataset"):
        RandomBackground()(bare, DRAW)
    with pytest.raises(FacefoldError, match="parts are packed in bits; leave unpack_parts=True"):
        packed = bare | {"parts": torch.zeros(B, 8, 224, 28, dtype=torch.uint8)}
        RandomBackground(mask="parts")(packed, DRAW)
    with pytest.raises(FacefoldError, match="no images or aligned_images in the batch"):
        ColourChange()({"row": batch["row"]}, DRAW)
    with pytest.raises(FacefoldError, match="no aligned_images in the batch"):
        ArcFaceInput()(bare, DRAW)
    with pytest.raises(FacefoldError, match=r"images: got torch.float32 .*, expected uint8"):
        RandomBackground()(bare | {"images": batch["images"].float()}, DRAW)
