"""MICA: a person's head at rest, in millimetres, from pictures of their face.

Zielonka, Bolkart and Thies, "Towards Metrical Reconstruction of Human Faces", ECCV 2022. A face
recognition network, most of it frozen, makes 512 features of an aligned crop; a small network maps
them to the identity coefficients of the face model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, StrictInt
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.loaders.image_transforms import ArcFaceInput, ColourChange
from pipeline.loaders.selection import Fewer
from pipeline.loaders.transforms import MICA_WEIGHTS, Chain, Transform, VertexWeights
from pipeline.training.aligned_crops import aligned, log_px_per_mm
from pipeline.training.backbones.arcface import FEATURES
from pipeline.training.backbones.features import Features
from pipeline.training.cameras import project
from pipeline.training.config import Count, NotNegative, Optimiser, Share, TrainingConfig
from pipeline.training.decoder import Decoder
from pipeline.training.losses.vertices import vertex_loss
from pipeline.training.mapping_network import MappingNetwork
from pipeline.training.mica_heads import heads, measure, picture
from pipeline.training.system import Losses, Moment, Samples, Setting, System
from pipeline.training.whitening import Whitening
from pipeline.views.view import ALIGNED_PX as CROP_PX

CAMERA = ("landmarks_px", "views.focal_px", "views.distance_mm")
"""Fields that say how large a face is that a crop shows."""
SCALE = 10.0
"""Of that number: sizes of faces differ by some hundredths."""
POINTS = 200
"""Vertices whose places guide."""
USUAL_OFF_PX = 4.0
"""About how far they are from where they usually are."""
NOISE_PX = 1.0
"""About how exactly their places are read."""
KNOWN = 500
"""People whose pictures say which places go together."""
GUIDES = ("vertices_mm", "landmarks_px", "canonical_to_camera", "camera_matrix_px")
"""Fields that say where crops show vertices."""


class MicaConfig(TrainingConfig):
    """Defaults are MICA's as it was released; `camera`, `colour` and `guidance` are not of it."""

    steps: Count = 160_000
    batch: Count = Field(default=8, description="People a step, of all processes together.")
    images: Count = Field(default=2, description="Pictures of each person in a step.")
    fewer: Fewer = Field(
        default="drop", description="People with fewer pictures: left out, or shown again."
    )
    optimiser: Optimiser = Field(
        default=Optimiser(learning_rate=1e-5, weight_decay=2e-4, schedule="steps"),
        description="The released schedule decays every 100,000,000 steps: never.",
    )
    input: Literal["pictures", "embeddings"] = Field(
        default="pictures",
        description="`embeddings`: the store's 512 numbers of your own network; only the mapping "
        "is trained.",
    )
    backbone: str = Field(
        default="arcface100",
        description="arcface50, arcface100, small, or a resnet of torchvision.",
    )
    backbone_weights: str = Field(
        default="", description="File of your own weights of the backbone."
    )
    size_px: Annotated[StrictInt, Field(ge=32, le=112)] = Field(
        default=112, description="Crops are made as small before the backbone; ArcFace's are not."
    )
    channels: Literal["rgb", "bgr"] = Field(
        default="rgb", description="Order of colours that the backbone was trained with."
    )
    frozen: bool = Field(
        default=True, description="Of an ArcFace, train the last layer alone. Others are trained."
    )
    norms_drift: bool = Field(
        default=True,
        description="Frozen batch norms go on adapting in training, as in MICA, where all is in "
        "training mode.",
    )
    camera: bool = Field(
        default=False,
        description="Tell the network how many pixels a millimetre takes at the face; focal "
        "length and distance have to be known, later too.",
    )
    hidden: Count = Field(default=3, description="Layers of the mapping after its first.")
    n_shape: Count = Field(default=300, description="Identity coefficients that are predicted.")
    label: Literal["shape", "neutral"] = Field(
        default="shape",
        description="`shape`: the head of the person's coefficients, as in MICA; `neutral`: their "
        "registered head, with what lies beyond the model.",
    )
    use_mask: bool = Field(
        default=True,
        description="Weigh vertices by `regions`: true in the released configuration, false in "
        "the code's defaults.",
    )
    regions: dict[str, NotNegative] = Field(
        default=dict(MICA_WEIGHTS),
        description="Weights of the model's regions, of others 1; the later region counts.",
    )
    guidance: NotNegative = Field(
        default=0.0,
        description="Weight of the distance, in px, of vertices of the face from where they are in "
        "the crop, as a layer reads it from the features: what a backbone from scratch learns by. "
        "The mapping then sees these places instead of the features.",
    )
    colour: Share = Field(default=0.0, description="± the change of training pictures' colours.")
    validation_people: Count = Field(
        default=200, description="Scored when validating, evenly spaced; each takes 0.25 s."
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Fields of views that the network sees."""
        seen = "aligned_images" if self.input == "pictures" else "embeddings"
        return (seen, *CAMERA) if self.camera else (seen,)

    def prepared(self, colour: float = 0.0) -> Transform:
        """What pictures go through before the network sees them, their colours changed or not."""
        if self.input == "embeddings":
            return Chain(())
        arcface = ArcFaceInput(self.channels)
        change = ColourChange(colour, colour, colour, colour, colour / 4, self.seed)
        return Chain((change, arcface)) if colour else arcface


class Mica(nn.Module):
    """The network with its loss: a `Learner`."""

    vertex_weights: Tensor | None  # (V,)
    guides: Tensor  # (POINTS,) vertices of the face, evenly spaced in their order
    usual_px: Tensor  # (POINTS,2) where crops of the mean face show them from the front

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config: MicaConfig = setting.config
        _check(config)
        self.config, model = config, setting.model
        n = min(config.n_shape, model.shape_basis_mm.shape[2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.features = _features(config)
            z = 2 * POINTS if config.guidance else FEATURES
            self.mapping = MappingNetwork(z + config.camera, 300, n, config.hidden)
            self.places = nn.Linear(FEATURES, 2 * POINTS) if config.guidance else None
        self.decoder = Decoder(model)
        weights = VertexWeights.of(model, config.regions).weights if config.use_mask else None
        self.register_buffer("vertex_weights", weights, persistent=False)
        if config.guidance:
            face = torch.as_tensor(model.regions["face"])
            guides = face[torch.arange(POINTS) * len(face) // POINTS]
            self.register_buffer("guides", guides, persistent=False)
            usual = _from_the_front(self.decoder, guides)
            self.register_buffer("usual_px", usual, persistent=False)
            self.whitened = Whitening(self._known_places(setting), NOISE_PX)

    def _known_places(self, setting: Setting) -> Tensor:
        """(N,2·POINTS) px, of pictures to train on."""
        people = _people(setting, self.config.train_split, GUIDES)
        some = torch.linspace(0, len(people) - 1, KNOWN).long().unique()
        return self.points_px(people[some]).flatten(1)

    def forward(self, batch: Sample, moment: Moment) -> Losses:
        """Of people's batches, K pictures each."""
        features = self.features_of(batch)
        found = self.decoder(self.codes(features, batch))
        truth = self.label(batch).repeat_interleave(self.config.images, 0)
        terms = {"vertices": vertex_loss(found, truth, self.vertex_weights)}
        if self.places is not None:
            apart = self.places_px(features) - self.points_px(batch)
            terms["guidance"] = self.config.guidance * apart.abs().nanmean()
        return Losses(torch.stack([*terms.values()]).sum(), terms)

    def features_of(self, batch: Sample) -> Tensor:
        """Pictures (B,…) or (P,K,…) -> (B,512) or (P·K,512)."""
        if self.features is None:
            return _flat(batch["embeddings"], 1).float()
        found: Tensor = self.features(_flat(batch["arcface_input"], 3))
        return found

    def codes(self, features: Tensor, batch: Sample) -> Tensor:
        """(N,512) of N pictures -> (N,n) coefficients."""
        if self.places is None:
            z = functional.normalize(features)
        else:
            z = self.whitened(self.places_px(features).flatten(1))
        if self.config.camera:
            scale = log_px_per_mm(*(batch[name] for name in CAMERA))
            z = torch.cat([z, SCALE * scale.reshape(-1, 1)], 1)
        found: Tensor = self.mapping(z)
        return found

    def places_px(self, features: Tensor) -> Tensor:
        """(N,512) -> (N,POINTS,2) where vertices of the face seem to be in the aligned crops."""
        assert self.places is not None
        off: Tensor = self.places(features).unflatten(1, (-1, 2))
        return self.usual_px + USUAL_OFF_PX * off

    @torch.no_grad()
    def points_px(self, batch: Sample) -> Tensor:
        """(P·K,POINTS,2) where vertices of the face are in the aligned crops."""
        vertices_mm, landmarks_px, *camera = (batch[name].flatten(0, 1) for name in GUIDES)
        points = project(vertices_mm[:, self.guides], *(values.float() for values in camera))
        return aligned(landmarks_px, points)

    @torch.no_grad()
    def label(self, batch: Sample) -> Tensor:
        """(P,V,3) mm."""
        if self.config.label == "neutral":
            neutral: Tensor = batch["identity_neutral_mm"]
            return neutral
        n = self.decoder.model.shape_basis_mm.shape[2]
        head: Tensor = self.decoder(batch["identity_shape"][:, :n])
        return head


def _from_the_front(decoder: Decoder, vertices: Tensor) -> Tensor:
    """(N,2) px of the aligned crop: vertices of the mean face. Raises ModelError for a model
    without landmarks."""
    head = decoder(torch.zeros(1, 0))
    marks, points = decoder.landmarks(head), head[:, vertices]
    down = torch.tensor([1.0, -1.0])
    return aligned(marks[..., :2] * down, points[..., :2] * down)[0]


def _features(config: MicaConfig) -> Features | None:
    if config.input == "embeddings":
        return None
    return Features(
        config.backbone,
        config.backbone_weights,
        size_px=config.size_px,
        frozen=config.frozen,
        norms_drift=config.norms_drift,
        centred=not config.guidance,  # a batch's statistics would blur what is read from it
    )


def _flat(values: Tensor, dims: int) -> Tensor:
    """(…,*rest) -> (N,*rest), the rest being `dims` dimensions."""
    return values.reshape(-1, *values.shape[-dims:])


def _check(config: MicaConfig) -> None:
    """Raises FacefoldError for keys that do not go together."""
    arcface = config.backbone.startswith("arcface")
    if config.input == "pictures" and arcface and config.frozen and not config.backbone_weights:
        raise FacefoldError(
            f"backbone: {config.backbone} has no weights, expected your own, as most of it is not "
            "trained: name their file in `backbone_weights`, or train all of it (`frozen: false`)"
        )
    if config.guidance and config.input == "embeddings":
        raise FacefoldError(
            f"guidance: {config.guidance:g} with input: embeddings, expected 0: no network that it "
            "could guide is trained"
        )
    if arcface and config.size_px != CROP_PX:
        raise FacefoldError(
            f"size_px: {config.size_px} with backbone {config.backbone}, expected {CROP_PX}, as it "
            "was made for"
        )


def samples(setting: Setting, split: str) -> Samples:
    """People of the split, `images` pictures of each, others each epoch.

    Raises StoreError where the store has no such pictures or people; FacefoldError where the camera
    of some is asked for and not known.
    """
    config: MicaConfig = setting.config
    label = "identity_shape" if config.label == "shape" else "identity_neutral_mm"
    guides = GUIDES if config.guidance else ()
    fields = list(dict.fromkeys([*config.inputs, label, *guides]))
    if config.camera:
        _check_cameras(setting, split)
    people = _people(setting, split, fields)
    return Samples(people, None, config.prepared(config.colour))


def _people(setting: Setting, split: str, fields: Sequence[str]) -> FaceDataset:
    """With `images` pictures of each."""
    config: MicaConfig = setting.config
    return FaceDataset(
        setting.store,
        split,
        fields,
        config.where or None,
        unit="identity",
        views=config.images,
        fewer=config.fewer,
    )


def _check_cameras(setting: Setting, split: str) -> None:
    config: MicaConfig = setting.config
    named = CAMERA[1:]
    pictures = FaceDataset(setting.store, split, named, config.where or None, unit="view")
    unknown = sum(int((~(pictures.column(name) > 0)).sum()) for name in named)
    if unknown:
        raise FacefoldError(
            f"{setting.store.path}: focal length or distance of pictures of {split} are not known "
            f"({unknown} values), expected both with `camera: true`; leave such pictures out "
            "(where: views.distance_mm > 0), or the camera"
        )


SYSTEM = System(
    title="MICA",
    citation="Zielonka, Bolkart, Thies: Towards Metrical Reconstruction of Human Faces. ECCV 2022.",
    config=MicaConfig,
    samples=samples,
    learner=Mica,
    measure=measure,
    best_by="metric_median_mm",
    picture=picture,
    heads=heads,
)
