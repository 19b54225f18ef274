"""A critic of shapes, and the loss that it gives: after "A Perceptual Shape Loss for Monocular 3D
Face Reconstruction" (Otto et al., Computer Graphics Forum 42(7), 2023).

It sees a photo and a grey render of the geometry over it, and scores how well they match. It knows
no albedo, no lighting and no mesh, only pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import FacefoldError
from pipeline.training.backbones.small import Small
from pipeline.training.shading import grey, surfaces

PICTURE = 224
"""Pixels of a stored picture."""


FIRST_PX, LEAST_PX = 5.0, 0.5
"""By which matching readings differ before anything is known of it, and at least."""
WIDTH = 32
BOOST = 4.0
"""By which the maps of where points mostly are learn faster."""
MEMORY = 0.99
"""How much of what is known of matching readings a step keeps."""


class Reader(nn.Module):
    """Where K points of a head lie in a picture: (B,C,H,W) -> (B,2K) columns, then rows, px of the
    stored picture.

    Fine and coarse features summed (Lin et al., CVPR 2017) make a heat map of each point, whose
    softmax has its mean there (Sun et al., ECCV 2018). The maps start from where points mostly are.
    """

    def __init__(self, channels: int, points: int, size: int) -> None:
        super().__init__()
        self.body = Small(channels)
        self.sides = nn.ModuleList(nn.Conv2d(n, WIDTH, 1) for n in (16, 32, 64, 128))
        self.last = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU())
        self.heat = nn.Conv2d(WIDTH, points, 1)
        self.mostly = nn.Parameter(torch.zeros(points, size // 2, size // 2))

    def forward(self, picture: Tensor) -> Tensor:
        levels = [self.body.stem(picture)]
        for stage in self.body.stages:
            levels.append(stage(levels[-1]))
        found: Tensor = self.sides[-1](levels[-1])
        for level, side in zip(levels[-2::-1], list(self.sides)[-2::-1], strict=True):
            found = functional.interpolate(found, level.shape[-2:], mode="bilinear") + side(level)
        heat = self.heat(self.last(found)) + BOOST * self.mostly
        share = heat.flatten(2).softmax(-1).view_as(heat)
        n = heat.shape[-1]
        place = (torch.arange(n, device=heat.device, dtype=heat.dtype) + 0.5) * PICTURE / n
        return torch.cat([share.sum(2) @ place, share.sum(3) @ place], 1)


class Critic(nn.Module):
    """Photo and render -> how well they match.

    Ours are two networks: one reads in the photo where points of a head lie, one in the render. The
    score is minus half the squared distance of the two, by the covariance of what they differ by
    where photo and render match: a log-likelihood, which grows on the way to the truth.
    """

    covariance: Tensor  # (2K,2K) px², of readings that match

    def __init__(self, points: int, size: int = 56) -> None:
        super().__init__()
        if size < 32 or PICTURE % size or size % 2:
            raise FacefoldError(
                f"critic of {size} px: expected 32 px or more, even, that divide {PICTURE}"
            )
        self.size = size
        self.of_photos, self.of_renders = Reader(3, points, size), Reader(1, points, size)
        self.register_buffer("covariance", FIRST_PX**2 * torch.eye(2 * points))

    def read(self, photo: Tensor) -> Tensor:
        """(B,3,H,W) -1 … 1 -> (B,2K) px."""
        found: Tensor = self.of_photos(photo)
        return found

    def read_render(self, render: Tensor) -> Tensor:
        """(B,H,W) 0 … 1 over noise -> (B,2K) px."""
        found: Tensor = self.of_renders(2 * render[:, None] - 1)
        return found

    def score(self, photo: Tensor, render: Tensor) -> Tensor:
        """(B,2K), (B,2K) as read -> (B,)."""
        least = LEAST_PX**2 * torch.eye(len(self.covariance), device=photo.device)
        apart = photo - render
        solved = torch.linalg.solve(self.covariance + least, apart.mT).mT
        found: Tensor = -0.5 * (apart * solved).sum(1)
        return found

    @torch.no_grad()
    def learn_covariance(self, photo: Tensor, render: Tensor) -> None:
        """From readings (B,2K) that match."""
        apart = photo - render
        self.covariance.lerp_(apart.mT @ apart / len(apart), 1 - MEMORY)

    def forward(self, photo: Tensor, render: Tensor) -> Tensor:
        """(B,3,H,W) -1 … 1, (B,H,W) 0 … 1 over noise -> (B,) scores, 0 or less: the higher, the
        better the match."""
        return self.score(self.read(photo), self.read_render(render))


def photos(images: Tensor, size: int) -> Tensor:
    """(B,224,224,3) uint8 -> (B,3,size,size) -1 … 1, pixel i being about the given pixel
    224 / size · i."""
    step = PICTURE // size
    planes = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    if step == 1:
        return planes
    return functional.avg_pool2d(planes, 2 * step - 1, step, step - 1, count_include_pad=False)


def thinned(camera_matrix_px: Tensor, size: int) -> Tensor:
    """(B,3,3) of stored pictures -> of pictures of every (224 / size)-th of their pixels."""
    scale = camera_matrix_px.new_tensor([size / PICTURE, size / PICTURE, 1.0])
    return camera_matrix_px * scale[:, None]


def noise(n: int, size: int, generator: torch.Generator) -> Tensor:
    """(n,size,size) 0 … 1: what is around a head."""
    return torch.rand(n, size, size, generator=generator, device=generator.device)


class PerceptualShapeLoss(nn.Module):
    """`loss(images, vertices_mm, faces, canonical_to_camera, camera_matrix_px)` -> (B,).

    A trained critic as a loss: minus its score. Differentiable in the vertices, by the normals and
    places of what pixels show; outlines give no gradient. Any mesh will do. Its noise is always the
    same, so that equal heads cost the same.
    """

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic.eval().requires_grad_(False)

    def forward(
        self,
        images: Tensor,
        vertices_mm: Tensor,
        faces: Tensor,
        canonical_to_camera: Tensor,
        camera_matrix_px: Tensor,
    ) -> Tensor:
        """(B,224,224,3) uint8, (B,V,3), (F,3), (B,4,4), (B,3,3) of the images -> (B,).

        Raises FacefoldError for images of another kind.
        """
        if images.shape[1:] != (PICTURE, PICTURE, 3) or images.dtype != torch.uint8:
            raise FacefoldError(
                f"images {tuple(images.shape)} {images.dtype}: expected (B,{PICTURE},{PICTURE},3) "
                "uint8, as stores keep them"
            )
        size = self.critic.size
        render, shown = rendered(vertices_mm, faces, canonical_to_camera, camera_matrix_px, size)
        around = noise(1, size, torch.Generator(images.device).manual_seed(0)).to(render)
        found: Tensor = self.critic(photos(images, size), torch.where(shown, render, around))
        return -found


def rendered(
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    camera_matrix_px: Tensor,
    size: int,
) -> tuple[Tensor, Tensor]:
    """(B,size,size) grey 0 … 1, and where it shows the mesh. The camera is a stored picture's."""
    matrix = thinned(camera_matrix_px, size)
    seen = surfaces(vertices_mm, faces, canonical_to_camera, matrix, size, size)
    return grey(vertices_mm, faces, seen, canonical_to_camera), seen.shown
