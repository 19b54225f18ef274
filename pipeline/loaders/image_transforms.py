"""What images may go through between the store and the network: colours, backgrounds, layout.

Like all transforms these are functions of the batch and of its `Draw`, see `transforms`. They take
a view a sample (B,H,W,3) as well as several (B,K,H,W,3), each drawn for itself, and leave every
pixel where it is: cameras, landmarks and parts stay right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import number, whole
from pipeline.loaders.dataset import Sample
from pipeline.loaders.permutation import draws
from pipeline.loaders.transforms import Draw
from pipeline.types import Array

IMAGES = ("images", "aligned_images")
"""Fields of colour images, (…,H,W,3) uint8 RGB."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of red, green and blue (ITU-R BT.601)."""

Mask = Literal["shaded_images", "parts"]
Channels = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class RandomBackground:
    """Puts noise, or one colour, behind the head in `images`; which of both is drawn by image.

    The head is what `mask` shows: the registered mesh (`shaded_images` above 0), or the face's
    `parts`. What neither has, such as hair, is background. `noise` is the share of images that get
    noise. `aligned_images` are left as they are, for no mask is aligned with them.
    """

    noise: float = 0.5
    mask: Mask = "shaded_images"
    seed: int = 0

    def __post_init__(self) -> None:
        number("noise", self.noise, 0, 1), whole("seed", self.seed)
        if self.mask not in get_args(Mask):
            raise FacefoldError(f"mask: got {self.mask!r}, expected {' or '.join(get_args(Mask))}")

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        images = _images(batch, "images")
        shown = self._shown(batch).reshape(-1, *images.shape[-3:-1])
        kind, colour = (self._drawn(draw, images, which) for which in range(2))
        noisy = (kind >> np.uint64(11)).astype(np.float64) * 2.0**-53 < self.noise
        result = images.clone(memory_format=torch.contiguous_format)
        places = _places(draw, images)
        flat = result.numpy().reshape(-1, *images.shape[-3:])
        for image, seen, place, noise, bits in zip(flat, shown, places, noisy, colour, strict=True):
            behind = ~seen
            one_colour = bits[None].view(np.uint8)[:3]
            image[behind] = self._noise(draw, place, image.shape)[behind] if noise else one_colour
        return batch | {"images": result}

    def _shown(self, batch: Sample) -> Array:
        """(…,H,W) bool."""
        if self.mask not in batch:
            raise FacefoldError(f"no {self.mask} in the batch; ask the dataset for it in `fields`")
        found: Tensor = batch[self.mask]
        if self.mask == "shaded_images":
            return found.numpy() > 0
        if found.dtype != torch.bool:
            raise FacefoldError("parts are packed in bits; leave unpack_parts=True")
        return np.asarray(np.bitwise_or.reduce(found.numpy(), axis=-3))

    def _drawn(self, draw: Draw, images: Tensor, which: int) -> Array:
        return draws((self.seed, draw.epoch, which), _places(draw, images))

    def _noise(self, draw: Draw, place: int, shape: tuple[int, ...]) -> Array:
        """Uniform noise of an image's shape: each number drawn is eight values."""
        n = -(-int(np.prod(shape)) // 8)
        bits = draws((self.seed, draw.epoch, 2, int(place)), np.arange(n))
        return bits.astype("<u8").view(np.uint8)[: int(np.prod(shape))].reshape(shape)


@dataclass(frozen=True)
class ColourChange:
    """Changes brightness, contrast, saturation, gamma and the channels' balance of colour images.

    Each is a factor, in turn: saturation against the pixel's grey, contrast against the image's
    mean grey, brightness, and each channel by itself, uniform in 1 - s … 1 + s; then gamma, the
    exponent of values in 0 … 1, log-uniform in 1/(1 + s) … 1 + s. `images` and `aligned_images` of
    one view change by the same numbers.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    gamma: float = 0.2
    channels: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "channels"):
            number(name, getattr(self, name), 0, 1)
        number("gamma", self.gamma, 0), whole("seed", self.seed)

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        fields = [name for name in IMAGES if name in batch]
        if not fields:
            raise FacefoldError(f"no {' or '.join(IMAGES)} in the batch; ask the dataset for them")
        changed = {}
        for name in fields:
            images = _images(batch, name)
            result = torch.empty(images.shape, dtype=torch.uint8)
            shape = -1, *images.shape[-3:]
            out, given = (values.numpy().reshape(shape) for values in (result, images))
            # one by one: what an image becomes must not depend on the others of its batch
            for new, image, numbers in zip(out, given, self._numbers(draw, images), strict=True):
                new[...] = _recoloured(image, numbers)
            changed[name] = result
        return batch | changed

    def _numbers(self, draw: Draw, images: Tensor) -> Array:
        """(N,7): saturation, contrast, brightness, three channels, gamma."""
        places = _places(draw, images)
        bits = draws((self.seed, draw.epoch), places[:, None] * 8 + np.arange(7))
        signed = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
        most = [self.saturation, self.contrast, self.brightness, *[self.channels] * 3]
        factors = 1 + signed[:, :6] * most
        return np.column_stack([factors, (1 + self.gamma) ** signed[:, 6]])


def _recoloured(image: Array, numbers: Array) -> Array:
    """(H,W,3) uint8 by the seven numbers of `ColourChange`, channel by channel."""
    saturation, contrast, brightness, *channels, gamma = map(float, numbers)
    planes = image.transpose(2, 0, 1).astype(np.float32, order="C")
    grey = GREY[0] * planes[0] + GREY[1] * planes[1] + GREY[2] * planes[2]
    mean = float(grey.mean())
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    changed = np.empty_like(image)
    for i, channel in enumerate(channels):
        factor = brightness * channel
        plane = np.float32(factor * contrast * saturation) * planes[i]
        plane += np.float32(factor * contrast * (1 - saturation)) * grey
        plane += np.float32(factor * (1 - contrast) * mean)
        np.rint(plane, out=plane).clip(0, 255, out=plane)
        changed[..., i] = levels.take(plane.astype(np.uint8))
    return changed


@dataclass(frozen=True)
class ArcFaceInput:
    """Adds `arcface_input` (…,3,112,112) float32, (x - 127.5) / 127.5 of `aligned_images`.

    As ArcFace's networks and MICA take it, in their order of colours: "rgb", or "bgr".
    """

    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        if self.channels not in get_args(Channels):
            raise FacefoldError(f"channels: got {self.channels!r}, expected 'rgb' or 'bgr'")

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        images = _images(batch, "aligned_images").movedim(-1, -3)
        ordered = images.flip(-3) if self.channels == "bgr" else images
        blob = ordered.to(torch.float32, memory_format=torch.contiguous_format)
        return batch | {"arcface_input": blob.sub_(127.5).div_(127.5)}


def _images(batch: Sample, name: str) -> Tensor:
    if name not in batch:
        raise FacefoldError(f"no {name} in the batch; ask the dataset for it in `fields`")
    images: Tensor = batch[name]
    if images.dtype != torch.uint8 or images.ndim not in (4, 5) or images.shape[-1] != 3:
        raise FacefoldError(
            f"{name}: got {images.dtype} {tuple(images.shape)}, expected uint8 (B,H,W,3) or "
            "(B,K,H,W,3)"
        )
    return images


def _places(draw: Draw, images: Tensor) -> Array:
    """(B·K,) a number of its own for each view of each sample of an epoch."""
    views = images.shape[1] if images.ndim == 5 else 1
    places: Array = (np.asarray(draw.positions)[:, None] * views + np.arange(views)).ravel()
    return places
