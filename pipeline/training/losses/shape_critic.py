"""A critic of shapes, and the loss that it gives: after "A Perceptual Shape Loss for Monocular 3D
Face Reconstruction" (Otto et al., Computer Graphics Forum 42(7), 2023).

It sees a photo and a grey render of the geometry over it, and scores how well they match. It knows
no albedo, no lighting and no mesh, only pixels.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import FacefoldError
from pipeline.training.backbones.small import Small
from pipeline.training.cameras import in_camera, pixel_grid, to_pixels
from pipeline.training.shading import Surfaces, grey, surfaces
from pipeline.views.view import IMAGE_PX

POINTS, GRID = 100, 7
"""Points that are read, and on how fine a grid of features."""
FIRST_PX, LEAST_PX = 5.0, 1.0
"""By which matching readings differ before anything is known of it, and at least."""
MEMORY = 0.99
"""How much of what is known of matching readings a step keeps."""
NEARBY, FAINT = 13, 0.05
"""Pixels across, and the least spread."""
GRAIN = 0.01
"""Standard deviation of noise, of white."""
AT_ONCE = 8
"""Pictures whose pixels are compared with all of their readings: 40 MB at 112 px."""


class Reader(nn.Module):
    """(B,C,S,S) -> (B,2K): where K points of a head lie, columns, then rows, px of the stored
    picture."""

    usual_px: Tensor  # (2K,)
    spread_px: Tensor  # (2K,)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = Small(channels, grid=GRID)
        self.places = nn.Linear(self.network.features, 2 * POINTS)
        nn.init.zeros_(self.places.weight)
        self.register_buffer("usual_px", torch.full((2 * POINTS,), IMAGE_PX / 2))
        self.register_buffer("spread_px", torch.ones(2 * POINTS))

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.usual_px + self.spread_px * self.places(self.network(picture))
        return found


class Critic(nn.Module):
    """Photo and render -> how well they match.

    Ours are two networks: one reads in the photo where points of a head lie, one in the render. The
    score is minus half the squared distance of the two, by the covariance of what they differ by
    where photo and render match: a log-likelihood, which grows on the way to the truth.
    """

    covariance: Tensor  # (2K,2K) px², of readings that match

    def __init__(self, size: int = 112) -> None:
        super().__init__()
        if size < 32 or IMAGE_PX % size or size % 16:
            raise FacefoldError(
                f"critic of {size} px: expected 32 px or more, by 16, that divide {IMAGE_PX}"
            )
        self.size = size
        self.of_photos, self.of_renders = Reader(3), Reader(2)
        self.register_buffer("covariance", FIRST_PX**2 * torch.eye(2 * POINTS))

    @torch.no_grad()
    def expect(self, places_px: Tensor) -> None:
        """Starts from where points mostly are in stored pictures: (N,2K)."""
        for reader in (self.of_photos, self.of_renders):
            reader.usual_px.copy_(places_px.mean(0))
            reader.spread_px.copy_(places_px.std(0).clamp_min(LEAST_PX))

    def read(self, photo: Tensor) -> Tensor:
        """(B,3,H,W) -1 … 1 -> (B,2K) columns, then rows, px of the stored picture."""
        found: Tensor = self.of_photos(photo)
        return found

    def read_render(self, render: Tensor) -> Tensor:
        """(B,H,W) 0 … 1 over noise -> (B,2K) px."""
        grey = 2 * render[:, None] - 1
        found: Tensor = self.of_renders(torch.cat([grey, detail(grey)], 1))
        return found

    def score(self, photo: Tensor, render: Tensor) -> Tensor:
        """(B,2K), (B,2K) as read -> (B,), 0 or less: the higher, the better the match."""
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


def detail(picture: Tensor) -> Tensor:
    """(B,1,H,W) -> the same about its mean nearby, in units of its spread there, so that light and
    dark faces and grey ones are alike (Jarrett et al., ICCV 2009)."""

    def nearby(values: Tensor) -> Tensor:
        for along in ((NEARBY, 1), (1, NEARBY)):
            around = along[0] // 2, along[1] // 2
            values = functional.avg_pool2d(values, along, 1, around, count_include_pad=False)
        return values

    about = picture - nearby(picture)
    return about / (nearby(about.square()) + FAINT**2).sqrt()


def photos(images: Tensor, size: int) -> Tensor:
    """(B,224,224,3) uint8 -> (B,3,size,size) -1 … 1, pixel i being about the given pixel
    224 / size · i."""
    step = IMAGE_PX // size
    planes = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    if step == 1:
        return planes
    return functional.avg_pool2d(planes, 2 * step - 1, step, step - 1, count_include_pad=False)


def thinned(camera_matrix_px: Tensor, size: int) -> Tensor:
    """(B,3,3) of stored pictures -> of pictures of every (224 / size)-th of their pixels."""
    scale = camera_matrix_px.new_tensor([size / IMAGE_PX, size / IMAGE_PX, 1.0])
    return camera_matrix_px * scale[:, None]


def noise(n: int, size: int, generator: torch.Generator) -> Tensor:
    """(n,size,size) 0 … 1, what is around a head: noise about a grey of each picture's own. Were it
    as strong as the head's shading, it would hide it."""
    where = generator.device
    level = torch.rand(n, 1, 1, generator=generator, device=where)
    grain = torch.randn(n, size, size, generator=generator, device=where)
    return (level + GRAIN * grain).clamp(0, 1)


class PerceptualShapeLoss(nn.Module):
    """`loss(images, vertices_mm, faces, canonical_to_camera, camera_matrix_px)` -> (B,).

    A copy of a trained critic as a loss: minus its score, differentiable in the vertices. Any mesh
    will do. Its noise is always the same, so that equal heads cost the same.

    What is read in the render is where points of the head lie: as the head moves, a reading moves
    with the surface under it, and that is its gradient. `by_shading` it is that of the pixels
    instead, by the normals and places of what they show; outlines and edges give none.
    """

    def __init__(self, critic: Critic, by_shading: bool = False) -> None:
        super().__init__()
        self.critic = deepcopy(critic).eval().requires_grad_(False)
        self.by_shading = by_shading

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
        if images.shape[1:] != (IMAGE_PX, IMAGE_PX, 3) or images.dtype != torch.uint8:
            raise FacefoldError(
                f"images {tuple(images.shape)} {images.dtype}: expected "
                f"(B,{IMAGE_PX},{IMAGE_PX},3) uint8, as stores keep them"
            )
        size, camera = self.critic.size, (canonical_to_camera, camera_matrix_px)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.by_shading):
            render, seen = rendered(vertices_mm, faces, *camera, size)
            around = noise(1, size, torch.Generator(images.device).manual_seed(0)).to(render)
            read = self.critic.read_render(torch.where(seen.shown, render, around))
        if not self.by_shading:
            read = carried(read, seen, vertices_mm, faces, *camera)
        photo = self.critic.read(photos(images, size).to(render))
        return -self.critic.score(photo, read)


def rendered(
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    camera_matrix_px: Tensor,
    size: int,
) -> tuple[Tensor, Surfaces]:
    """(B,size,size) grey 0 … 1, and what it shows of the mesh. The camera is a stored picture's."""
    matrix = thinned(camera_matrix_px, size)
    seen = surfaces(vertices_mm, faces, canonical_to_camera, matrix, size, size)
    return grey(vertices_mm, faces, seen, canonical_to_camera), seen


def carried(
    places_px: Tensor,
    seen: Surfaces,
    vertices_mm: Tensor,
    faces: Tensor,
    canonical_to_camera: Tensor,
    camera_matrix_px: Tensor,
) -> Tensor:
    """(B,2K) columns, then rows, px of the stored picture -> the same, with the gradient of the
    surface's points that lie there, or nearest to there; none for a picture that shows no mesh."""
    height, width = seen.shown.shape[1:]
    places = places_px.detach().unflatten(1, (2, -1)).mT * (width / IMAGE_PX)
    pixels = pixel_grid(height, width, places)[..., :2].flatten(0, 1)
    shown = seen.shown.flatten(1)
    nearest = _nearest(places, pixels, shown)
    batch = torch.arange(len(places), device=faces.device)[:, None]
    under = Surfaces(
        seen.triangle.flatten(1)[batch, nearest][:, None],
        seen.barycentric.detach().flatten(1, 2)[batch, nearest][:, None],
    )
    points = in_camera(under.values(vertices_mm, faces)[:, 0], canonical_to_camera)
    points = torch.where(shown.any(1)[:, None, None], points, points.new_tensor([0.0, 0.0, 1.0]))
    moving = to_pixels(points, camera_matrix_px).mT.flatten(1)
    return places_px + moving - moving.detach()


def _nearest(places: Tensor, pixels: Tensor, shown: Tensor) -> Tensor:
    """(B,K,2), (N,2), (B,N) bool -> (B,K): which of the shown pixels is nearest to each place."""
    found = []
    for some, of in zip(places.split(AT_ONCE), shown.split(AT_ONCE), strict=True):
        far = torch.cdist(some, pixels, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(far.masked_fill(~of[:, None], torch.inf).argmin(-1))
    return torch.cat(found)
