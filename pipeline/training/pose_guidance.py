"""Faces by a pose guidance network, after Liu et al. (ACCV 2020, arXiv 2010.04384).

The pose of a head is not regressed: it is the rigid motion that leads the landmarks of the
predicted head onto landmarks that are predicted in three dimensions. Images with labels teach
both; on images without, the posed head and the landmarks teach each other. Frames of one person
share their shape. The paper's network, weights and training schedule are not public.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.loaders.dataset import Sample
from pipeline.training.camera_turns import Changes, Turned, turned
from pipeline.training.cameras import to_pixels
from pipeline.training.closed_form_pose import pose_from_landmarks
from pipeline.training.config import Count, NotNegative, Section, Share, TrainingConfig
from pipeline.training.decoder import Decoder
from pipeline.training.landmark_head import heat_loss
from pipeline.training.landmark_model import landmark_model
from pipeline.training.losses.objective import weighted
from pipeline.training.pose_labels import OnlyLabels, Truth, check_labels, truth_of
from pipeline.training.pose_network import SCALE, PoseNetwork, Seen, fused
from pipeline.training.pose_scores import heads, measure, picture, shown_people
from pipeline.training.system import Losses, Moment, Samples, Setting, System
from pipeline.views.view import IMAGE_PX

FACES = 2000
"""That say which places of landmarks go together."""


class Weights(Section):
    """Of the losses. Lengths are in millimetres, pixels are those of a crop of 224."""

    landmarks: NotNegative = Field(
        default=1.0, description="Predicted landmarks from labels, both relative to their mean, mm."
    )
    pixels: NotNegative = Field(default=1.0, description="Predicted landmarks from labels, px.")
    heat: NotNegative = Field(
        default=3.0, description="Heat maps' cross-entropy with the labels' places."
    )
    rotation: NotNegative = Field(default=30.0, description="Of the head, |R − R*|.")
    at_rest: NotNegative = Field(
        default=1.0,
        description="The model's landmarks from labels with the true rotation undone, mm.",
    )
    reprojection: NotNegative = Field(
        default=0.5, description="Landmarks of the posed head from labels, px."
    )
    consistency: NotNegative = Field(
        default=0.5, description="Landmarks of the posed head from those predicted, mm."
    )
    neutral: NotNegative = Field(default=1.0, description="The face at rest from the scans', mm.")
    agreement: NotNegative = Field(
        default=0.1, description="Each frame's own face at rest from the one they share, mm."
    )
    prior: NotNegative = Field(default=0.01, description="Mean square of all coefficients.")


class PoseGuidanceConfig(TrainingConfig):
    """`batch` counts people; a step shows `frames` pictures of each."""

    batch: Count = 16
    frames: Count = Field(default=4, description="Pictures of a person that share their shape.")
    pose: Literal["closed_form", "regressed"] = Field(
        default="closed_form",
        description="`regressed`: the same network with a head for the pose, to compare with.",
    )
    backbone: str = "resnet50"
    size_px: Count = Field(default=224, description="Of the pictures that the network sees.")
    n_shape: Count = Field(default=100, description="At most as many as the model has.")
    n_expression: Count = 50
    roll_deg: NotNegative = Field(default=20.0, description="± the turn of training pictures.")
    shift: Share = Field(default=0.05, description="± the shift, in widths of the picture.")
    zoom: Share = Field(default=0.1, description="± the change of size.")
    colour: Share = Field(default=0.2, description="± the change of each channel's strength.")
    weights: Weights = Weights()

    @property
    def changes(self) -> Changes:
        return Changes(self.roll_deg, self.shift, self.zoom, self.colour)


class Prediction(NamedTuple):
    """Of P people in K pictures each, the pictures of a person in a row."""

    view: Turned
    seen: Seen
    shape: Tensor  # (P,s) what the pictures of a person say together
    rest_mm: Tensor  # (P·K,L,3) the model's landmarks at rest
    rotation: Tensor  # (P·K,3,3) of the head, in the turned camera's frame
    posed_mm: Tensor  # (P·K,L,3) the model's landmarks there


class PoseGuidance(nn.Module):
    """The network with its losses: a `Learner`."""

    face_mm: Tensor  # (F,3) of the face at rest
    face_basis_mm: Tensor  # (s,F,3)
    face: Tensor  # (F,) vertices
    marks: Tensor  # (L,) the landmarks that the model has

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config: PoseGuidanceConfig = setting.config
        self.config = config
        model = setting.model
        self.decoder = Decoder(landmark_model(model))
        n_shape, n_expression = (
            x.shape[-1] for x in (model.shape_basis_mm, model.expression_basis_mm)
        )
        sizes = min(config.n_shape, n_shape), min(config.n_expression, n_expression)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            regressed = config.pose == "regressed"
            faces = self._faces(*sizes)
            self.network = PoseNetwork(config.backbone, *sizes, regressed, faces)
        known = self.decoder.landmark_68
        face = torch.as_tensor(model.regions["face"])
        basis = torch.as_tensor(model.shape_basis_mm[face][..., : sizes[0]])
        for name, value in {
            "marks": known[known >= 0].sort().values,
            "face": face,
            "face_mm": torch.as_tensor(model.template_mm[face]).float(),
            "face_basis_mm": basis.permute(2, 0, 1).float().contiguous(),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def _faces(self, n_shape: int, n_expression: int) -> Tensor:
        """(FACES,68,3) mm: landmarks of the template and of drawn faces, in the axes of a camera
        that they look at."""
        shape, expression = torch.randn(FACES, n_shape), torch.randn(FACES, n_expression)
        size = torch.exp(SCALE * torch.randn(FACES, 1, 1))
        shape[0], expression[0], size[0] = 0, 0, 1
        marks = self.decoder.landmarks(self.decoder(shape, expression))
        return size * marks * torch.tensor([1.0, -1.0, -1.0])

    def forward(self, batch: Sample, moment: Moment) -> Losses:
        images, cameras = batch["images"], batch["camera_matrix_px"]
        drawn = moment.generator("changes", images.device)
        found = self.predict(images, cameras, self.config.changes, drawn)
        return self.losses(found, truth_of(found.view, batch))

    def predict(
        self,
        images: Tensor,
        camera_matrix_px: Tensor,
        changes: Changes | None = None,
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """(P,K,H,W,3) uint8, (P,K,3,3)."""
        people, frames = images.shape[:2]
        flat = images.flatten(0, 1), camera_matrix_px.flatten(0, 1)
        view = turned(*flat, self.config.size_px, changes, generator)
        seen: Seen = self.network(view.pictures, view.camera_matrix_px)
        own, precision = (x.unflatten(0, (people, frames)) for x in (seen.shape, seen.precision))
        shape = fused(own, precision)
        rest = self.at_rest(shape.repeat_interleave(frames, 0), seen.expression, seen.jaw)
        if seen.pose is None:
            marks = self.marks
            target, weights = seen.landmarks_mm[:, marks], seen.weights[:, marks]
            rotation, translation = pose_from_landmarks(rest, target, weights)
            posed = rest @ rotation.mT + translation[:, None]
        else:
            rotation, middle = seen.pose
            posed = (rest - rest.mean(1, keepdim=True)) @ rotation.mT + middle[:, None]
        return Prediction(view, seen, shape, rest, rotation, posed)

    def at_rest(self, shape: Tensor, expression: Tensor, jaw: Tensor) -> Tensor:
        """(B,s), (B,e), (B,3) -> (B,L,3) the model's landmarks, mm."""
        pose = functional.pad(jaw, (6, 0)) if len(self.decoder.model.parents) > 2 else None
        return self.decoder.landmarks(self.decoder(shape, expression, pose))[:, self.marks]

    def neutral(self, shape: Tensor) -> Tensor:
        """(…,s) -> (…,F,3) mm: the face at rest."""
        moved: Tensor = torch.tensordot(shape, self.face_basis_mm, 1)
        return self.face_mm + moved

    def losses(self, found: Prediction, truth: Truth) -> Losses:
        seen, camera = found.seen, found.view.camera_matrix_px
        marks, px = self.marks, IMAGE_PX / self.config.size_px
        goal_px = to_pixels(truth.landmarks_mm, camera)
        posed_px = to_pixels(found.posed_mm, camera)
        # a person's head is known where one of the pictures has labels
        known = truth.labelled.unflatten(0, (len(found.shape), -1)).any(1)[:, None, None]
        head = truth.neutral_mm[:, self.face].masked_fill(~known, torch.nan)[:, None]
        own = self.neutral(seen.shape.unflatten(0, (len(head), -1)))
        shared = self.neutral(found.shape)[:, None]
        terms = {
            "landmarks": _apart(*_centred(seen.landmarks_mm, truth.landmarks_mm)),
            "pixels": px * _apart(seen.landmarks_px, goal_px),
            "heat": heat_loss(seen.log_heat, goal_px, self.config.size_px),
            "rotation": _apart_turned(found.rotation, truth.rotation, truth.labelled),
            "at_rest": _apart(*_centred(found.rest_mm, truth.at_rest_mm[:, marks])),
            "reprojection": px * _apart(posed_px, goal_px[:, marks]),
            "consistency": _apart(*_centred(found.posed_mm, seen.landmarks_mm[:, marks])),
            "neutral": (_apart(own, head) + _apart(shared, head)) / 2,
            "agreement": (own - shared).abs().mean(),
            "prior": seen.shape.square().mean() + seen.expression.square().mean(),
        }
        return weighted(terms, self.config.weights)


def _apart(found: Tensor, truth: Tensor) -> Tensor:
    """() mean absolute difference where the truth is known; 0 where nothing is."""
    known = torch.isfinite(truth)
    apart = (found - truth.nan_to_num()).abs() * known
    return apart.sum() / known.expand_as(apart).sum().clamp_min(1)


def _apart_turned(found: Tensor, truth: Tensor, labelled: Tensor) -> Tensor:
    """() mean Frobenius norm |R − R*| = √8 sin(θ/2), over the labelled."""
    apart = ((found - truth).square().sum((1, 2)) + 1e-6).sqrt() * labelled
    return apart.sum() / labelled.sum().clamp_min(1)


def _centred(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """(B,N,3) both relative to their mean over the points whose truth is known."""
    known = torch.isfinite(truth).float()
    n = known.sum(1, keepdim=True).clamp_min(1)
    middles = ((x * known).sum(1, keepdim=True) / n for x in (found, truth.nan_to_num()))
    middle, goal = middles
    return found - middle, truth - goal


def samples(setting: Setting, split: str) -> Samples:
    """People of the split with `frames` pictures each; who has fewer shows some again.

    Raises StoreError where no picture has landmarks that its source gave.
    """
    config: PoseGuidanceConfig = setting.config
    check_labels(setting.store, split, config.where)
    return Samples(shown_people(setting, split), transform=OnlyLabels())


SYSTEM = System(
    title="Pose guidance network",
    citation="after Liu et al., Learning 3D Face Reconstruction with a Pose Guidance Network, "
    "ACCV 2020, arXiv 2010.04384",
    config=PoseGuidanceConfig,
    samples=samples,
    learner=PoseGuidance,
    measure=measure,
    best_by="landmarks_mm",
    picture=picture,
    heads=heads,
)
