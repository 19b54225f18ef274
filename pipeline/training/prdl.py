"""Faces by the geometric guidance of part segmentation: PRDL, as in 3DDFA-V3.

Wang et al., "3D Face Reconstruction with the Geometric Guidance of Facial Part Segmentation", CVPR
2024: a network says shape, expression, pose, colours and light of the face in a picture, and learns
from the picture itself, its landmarks and the masks of its parts; no scan is needed. Its other
losses and their weights are those of Deng et al. (CVPR Workshops 2019).

After the paper, whose training code is not public: the face model has no basis of albedo, so a
colour a part stands in; the camera of a picture is known; there is no loss of a recogniser's
features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import FacefoldError
from pipeline.flame.model import PARTS
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.backbones import backbone
from pipeline.training.cameras import shrunk, to_pixels, unmoved
from pipeline.training.config import Count, NotNegative, Optimiser, Section, TrainingConfig
from pipeline.training.decoder import Decoder
from pipeline.training.losses.landmarks import landmark_loss, landmark_weights_68
from pipeline.training.losses.objective import weighted
from pipeline.training.losses.parts import (
    distance_statistics,
    farthest_points,
    grid_anchors,
    mask_statistics,
    part_loss,
)
from pipeline.training.losses.photometric import photometric_loss
from pipeline.training.losses.regularisation import PriorWeights, coefficient_loss, gamma_loss
from pipeline.training.part_surface import MOST_CELLS, PartSurface
from pipeline.training.prdl_scores import PrdlPrediction, measure, picture
from pipeline.training.shading import surfaces
from pipeline.training.spherical_harmonics import irradiance
from pipeline.training.system import Losses, Moment, Samples, Setting, System
from pipeline.views.view import IMAGE_PX

PX_PER_MM, MIDDLE_PX = 0.95, 111.5
"""Of a face in them, about, and where its middle is: what a fresh network says."""
TURN_RAD, SHIFT_PX, LOG_SIZE, JAW_RAD = 0.5, 20.0, 0.1, 0.2
"""What one unit of the network's output is."""
ALBEDO, ALBEDO_UNIT = 0.5, 0.2
FIELDS = (
    "images",
    "parts",
    "landmarks_px",
    "landmark_visibility",
    "camera_matrix_px",
)


class PrdlWeights(Section):
    """Of the losses, the paper's; of light's colour Deep3D's."""

    parts: NotNegative = 0.8e-3
    landmarks: NotNegative = 1.6e-3
    colour: NotNegative = 1.9
    coefficients: NotNegative = 3e-4
    gamma: NotNegative = 10.0


class PrdlConfig(TrainingConfig):
    """Defaults are the paper's where it says them."""

    optimiser: Optimiser = Optimiser(name="adam", learning_rate=1e-4)
    backbone: str = Field(default="resnet50", description="small, or a resnet of torchvision.")
    size_px: Count = Field(default=IMAGE_PX, description="Of the pictures that the network sees.")
    n_shape: Count = Field(default=80, description="Identity coefficients that are predicted.")
    n_expression: Count = Field(default=64, description="At most as many as the model has.")
    anchor_px: Count = Field(default=8, description="Grid of anchors: one every so many pixels.")
    anchors: Count = Field(
        default=784, description="Fewer than the grid has are chosen by farthest-point sampling."
    )
    mask_px: Count = Field(default=IMAGE_PX, description="Masks are halved until they are smaller.")
    cells: Count = Field(default=MOST_CELLS, description="Most points of a part on the mesh.")
    part_weights: dict[str, NotNegative] = Field(
        default={}, description="Weights of parts by their names; of others 1, and 0 leaves out."
    )
    photo_px: Count = Field(default=112, description="Of the pictures whose colours are compared.")
    weights: PrdlWeights = PrdlWeights()
    priors: PriorWeights = PriorWeights()
    validation_views: Count = Field(default=200, description="Scored when validating, evenly.")


class Outputs(NamedTuple):
    """What the network says of B pictures, in its own units."""

    shape: Tensor  # (B,s)
    expression: Tensor  # (B,e)
    jaw: Tensor  # (B,3)
    turn: Tensor  # (B,3) axis-angle, from a head that faces the camera
    place: Tensor  # (B,3) column, row, log of size
    light: Tensor  # (B,27)
    albedo: Tensor  # (B,27) of PARTS and the rest


class Prdl(nn.Module):
    """The network with its losses: a `Learner`."""

    anchors: Tensor  # (A,2) px of 224
    middle_mm: Tensor  # (3,) of the face at rest
    part: Tensor  # (F,) index into PARTS, or the number of PARTS
    facing: Tensor  # (3,3) the canonical frame's axes before a camera
    part_weights: Tensor  # (P,) of the parts that are used

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config: PrdlConfig = setting.config
        self.config, model = config, setting.model
        self.decoder, self.surface = Decoder(model), PartSurface(model, config.cells)
        n = min(config.n_shape, model.shape_basis_mm.shape[2])
        e = min(config.n_expression, model.expression_basis_mm.shape[2])
        self.outputs = Outputs(n, e, 3, 3, 3, 27, 27)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.features, size = backbone(config.backbone)
            self.head = nn.Linear(size, sum(self.outputs))  # type: ignore[arg-type]
        with torch.no_grad():
            # begins with the average face in the middle of the picture
            self.head.weight *= 0.1
            self.head.bias.zero_()
        grid = grid_anchors(IMAGE_PX, IMAGE_PX, config.anchor_px)
        if config.anchors < len(grid):
            grid = grid[farthest_points(grid, config.anchors)]
        own = torch.as_tensor(model.triangle_part).long()
        weights = _part_weights(config)
        self.used = [i for i, weight in enumerate(weights.tolist()) if weight]
        for name, value in {
            "anchors": grid,
            "middle_mm": torch.as_tensor(model.template_mm[model.regions["face"]].mean(0)).float(),
            "part": torch.where(own >= 0, own, len(PARTS)),
            "facing": torch.diag(torch.tensor([1.0, -1.0, -1.0])),
            "part_weights": weights[self.used],
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, batch: Sample, moment: Moment) -> Losses:
        camera = batch["camera_matrix_px"].float()
        pictures = _pictures(batch["images"])
        outputs = self.says(pictures)
        heads = self.heads(outputs, camera)
        terms = {
            "landmarks": self._landmarks(heads, batch, camera),
            "colour": self._colour(heads, outputs, batch, pictures, camera),
            "coefficients": coefficient_loss(
                outputs.shape, outputs.expression, outputs.albedo, self.config.priors
            ),
            "gamma": gamma_loss(outputs.light),
        }
        if self.config.weights.parts:
            terms["parts"] = self._parts(heads, batch, camera)
        return weighted(terms, self.config.weights)

    def says(self, pictures: Tensor) -> Outputs:
        """(B,3,224,224) 0 … 1."""
        seen = _resized(pictures, self.config.size_px)
        return Outputs(*self.head(self.features(2 * seen - 1)).split(self.outputs, 1))

    def heads(self, outputs: Outputs, camera_matrix_px: Tensor) -> Tensor:
        """(B,V,3) mm in the cameras' frames."""
        jaw = torch.nn.functional.pad(JAW_RAD * outputs.jaw, (6, 0))
        rest = self.decoder(outputs.shape, outputs.expression, jaw) - self.middle_mm
        turn = self.facing @ rotation_matrices(TURN_RAD * outputs.turn)
        at = torch.nn.functional.pad(MIDDLE_PX + SHIFT_PX * outputs.place[:, :2], (0, 1), value=1)
        size = PX_PER_MM * (LOG_SIZE * outputs.place[:, 2:]).exp()
        ray = (torch.linalg.inv(camera_matrix_px) @ at[..., None])[..., 0]
        depth = camera_matrix_px[:, 0, :1] / size
        heads: Tensor = rest @ turn.mT + (ray * depth)[:, None]
        return heads

    @torch.no_grad()
    def predict(self, batch: Sample) -> PrdlPrediction:
        """Of a batch of views."""
        camera = batch["camera_matrix_px"].float()
        pictures = _pictures(batch["images"])
        outputs = self.says(pictures)
        heads = self.heads(outputs, camera)
        return PrdlPrediction(heads, to_pixels(self.decoder.landmarks(heads), camera))

    def _landmarks(self, heads: Tensor, batch: Sample, camera: Tensor) -> Tensor:
        found = to_pixels(self.decoder.landmarks(heads), camera)
        labelled = batch["landmarks_px"].to(found)
        known = ~(found.isnan() | labelled.isnan()).any(-1) & (batch["landmark_visibility"] > 0)
        label = torch.where(known[..., None], labelled, torch.nan)
        return landmark_loss(found.nan_to_num(), label, landmark_weights_68(found))

    def _parts(self, heads: Tensor, batch: Sample, camera: Tensor) -> Tensor:
        sets = self.surface(heads, unmoved(heads), camera)
        found = torch.stack([distance_statistics(sets[i], self.anchors) for i in self.used], 1)
        masks = batch["parts"][:, self.used]
        factor = 1
        while IMAGE_PX // factor > self.config.mask_px:
            factor *= 2
        small = nn.functional.avg_pool2d(masks.float(), factor) >= 0.5
        anchors = (self.anchors + 0.5) / factor - 0.5
        target = factor * mask_statistics(small, anchors)
        present = torch.stack([sets[i].present for i in self.used], 1) & small.any(3).any(2)
        return part_loss(found, target, present, self.part_weights)

    def _colour(
        self, heads: Tensor, outputs: Outputs, batch: Sample, pictures: Tensor, camera: Tensor
    ) -> Tensor:
        n, faces = self.config.photo_px, self.decoder.faces
        seen = surfaces(heads, faces, unmoved(heads), shrunk(camera, n / IMAGE_PX), n, n)
        normals = nn.functional.normalize(seen.values(vertex_normals(heads, faces), faces), dim=-1)
        light = irradiance(normals * torch.diagonal(self.facing), outputs.light)
        part = self.part[seen.triangle.clamp_min(0)]
        albedo = (ALBEDO + ALBEDO_UNIT * outputs.albedo).unflatten(1, (-1, 3))
        own = albedo.gather(1, part.flatten(1)[..., None].expand(-1, -1, 3)).view_as(normals)
        face = _resized(batch["parts"].any(1, keepdim=True).float(), n)
        mask = face * (seen.shown & (part < len(PARTS)))[:, None]
        return photometric_loss((own * light).movedim(-1, 1), _resized(pictures, n), mask)


def _part_weights(config: PrdlConfig) -> Tensor:
    """(P,). Raises FacefoldError for a name that is none of PARTS."""
    unknown = sorted(set(config.part_weights) - set(PARTS))
    if unknown:
        raise FacefoldError(
            f"part_weights: {', '.join(unknown)}: no such part, expected some of {', '.join(PARTS)}"
        )
    return torch.tensor([config.part_weights.get(name, 1.0) for name in PARTS])


def _pictures(images: Tensor) -> Tensor:
    """(B,H,W,3) uint8 -> (B,3,H,W) 0 … 1."""
    return images.movedim(-1, 1).float() / 255


def _resized(pictures: Tensor, size_px: int) -> Tensor:
    if pictures.shape[-1] == size_px:
        return pictures
    size = (size_px, size_px)
    return nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True)


def samples(setting: Setting, split: str) -> Samples:
    """Views of the split. Raises StoreError where the store has none."""
    where = setting.config.where or None
    return Samples(FaceDataset(setting.store, split, FIELDS, where, unit="view"))


SYSTEM = System(
    title="PRDL",
    citation="Wang et al.: 3D Face Reconstruction with the Geometric Guidance of Facial Part "
    "Segmentation. CVPR 2024.",
    config=PrdlConfig,
    samples=samples,
    learner=Prdl,
    measure=measure,
    best_by="landmarks_px",
    picture=picture,
)
