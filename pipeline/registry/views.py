"""The section `views` of a source file: which pictures of its scans networks are to see."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from pipeline.registry.sections import (
    LandmarkFormat,
    Number,
    PathTemplate,
    Scheme,
    Section,
)

CameraFrom = Literal["grid", "landmarks", "calibration"]
"""Where a photo's camera is from."""
CalibrationFormat = Literal["tka", "params.json", "cameras.npz"]
CALIBRATION_FORMATS = get_args(CalibrationFormat)
NEAREST_MM, FURTHEST_MM = 150.0, 10_000.0
"""Of a camera from a face: nearer ones would stand in it, further ones see no perspective."""
MAX_RENDERS = 64
MAX_FOCAL_PX = 20_000.0


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] <= value[1]:
        raise ValueError("two numbers, the smaller first")
    return value


def _distances(value: tuple[float, float]) -> tuple[float, float]:
    if not NEAREST_MM <= value[0] <= value[1] <= FURTHEST_MM:
        raise ValueError(
            f"two distances within {NEAREST_MM:g}–{FURTHEST_MM:g} mm, the smaller first"
        )
    return value


def _focal_lengths(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= MAX_FOCAL_PX:
        raise ValueError(f"two focal lengths within 0–{MAX_FOCAL_PX:g} px, the smaller first")
    return value


Angle = Annotated[Number, Field(ge=-90, le=90)]
Angles = Annotated[tuple[Angle, Angle], AfterValidator(_ascending)]
Distances = Annotated[tuple[Number, Number], AfterValidator(_distances)]
FocalLengths = Annotated[tuple[Number, Number], AfterValidator(_focal_lengths)]


class PhotoLandmarks(Section):
    """2D landmarks of a photo, from which its camera is computed."""

    file: PathTemplate = Field(
        description="A photo's landmark file relative to the root, as landmarks.file; {photo} is "
        "the photo's own name without suffix, and {rest} what its wildcards, or its next number, "
        "stand for: `{dir}/{photo}.pts`."
    )
    format: LandmarkFormat = Field(description="Its reader, of pixels: pts, ljson, land …")
    scheme: Scheme = Field(description="What each landmark is.")


class Calibration(Section):
    """A file that says where a photo's camera stands."""

    file: PathTemplate = Field(
        description="The file relative to the root, as views.photos.landmarks.file: "
        "`{dir}/calib_{rest}.tka`."
    )
    format: CalibrationFormat = Field(
        description="`tka`: 3dMD's, a file a camera; `params.json`: FaceScape's, and "
        "`cameras.npz`: that of IDR and H3DS, of many cameras."
    )
    camera: PathTemplate | None = Field(
        default=None,
        description="Which camera of a file of many: its number there, `{rest}`; of a text such "
        "as img_0007 the last number counts.",
    )

    @model_validator(mode="after")
    def _names_a_camera(self) -> Calibration:
        if (self.camera is None) == (self.format != "tka"):
            raise ValueError("`camera` for a file of many cameras, and none for a tka")
        return self


class Photo(Section):
    """Photos of a scan, taken in the same moment as the scan."""

    file: PathTemplate = Field(
        description="The photo, or several by `*` and `?` in the name, as images; "
        "`{dir}/{subject}d{number+next}.ppm.gz`."
    )
    else_file: tuple[PathTemplate, ...] = Field(
        default=(), description="Looked for in this order if `file` is not there."
    )
    camera: CameraFrom = Field(
        description="`grid`: the photo's pixels are those of the range image, up to its size; "
        "`landmarks`: computed from 2D landmarks; `calibration`: stated by a file."
    )
    landmarks: PhotoLandmarks | None = Field(
        default=None, description="The 2D landmarks; for camera: landmarks alone."
    )
    calibration: Calibration | None = Field(
        default=None, description="The calibration; for camera: calibration alone."
    )

    @model_validator(mode="after")
    def _what_its_camera_needs(self) -> Photo:
        for name, given in (("landmarks", self.landmarks), ("calibration", self.calibration)):
            if (given is not None) != (self.camera == name):
                raise ValueError(
                    f"`{name}` with camera: {name} and with no other, as camera is {self.camera}"
                )
        return self

    @property
    def pictures(self) -> dict[str, str]:
        """Field -> template of the photo's path, in the order that they are looked for."""
        others = {f"else_file.{i}": text for i, text in enumerate(self.else_file)}
        return {"file": self.file, **others}

    @property
    def beside(self) -> dict[str, str]:
        """Field -> template that a photo's own name may be a part of."""
        found = {}
        if self.landmarks is not None:
            found["landmarks.file"] = self.landmarks.file
        if self.calibration is not None:
            found["calibration.file"] = self.calibration.file
            if self.calibration.camera is not None:
                found["calibration.camera"] = self.calibration.camera
        return found

    @property
    def templates(self) -> dict[str, str]:
        """Field -> template, of all that a scan's groups fill in."""
        return self.pictures | self.beside


class Views(Section):
    """Photos and renders of each scan that is kept; none where nothing is said."""

    photos: tuple[Photo, ...] = Field(default=(), description="Photos with cameras.")
    renders: Annotated[StrictInt, Field(ge=0, le=MAX_RENDERS)] = Field(
        default=0, description="Pictures that are rendered of each scan."
    )
    colours: StrictBool = Field(
        default=True,
        description="Do renders show the scan's own texture or vertex colours? Else, and if it has "
        "none, its shape alone, in grey.",
    )
    yaw_deg: Angles = Field(
        default=(-60.0, 60.0),
        description="Head turned to its left, drawn evenly between these for each render.",
    )
    pitch_deg: Angles = Field(
        default=(-25.0, 25.0), description="Head turned up, likewise; from the same seed."
    )
    roll_deg: Angles = Field(
        default=(-10.0, 10.0), description="Head tilted in the picture's plane, likewise."
    )
    distance_mm: Distances = Field(
        default=(450.0, 1500.0),
        description="Of the camera from the face, drawn evenly in the logarithm.",
    )
    focal_px: FocalLengths | None = Field(
        default=None,
        description="Focal length of the picture that the face is cropped from, in pixels: shorter "
        "ones make faces smaller and so their crops less sharp. Without it crops are as sharp as "
        "their size allows.",
    )
    lights: Literal["studio", "random"] = Field(
        default="random",
        description="`studio`: the same soft lights for all; `random`: drawn for each render.",
    )
    backgrounds: Literal["noise", "grey"] = Field(
        default="noise",
        description="`noise`: smooth coloured noise, drawn for each render; `grey`: none.",
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """Templates of the paths of files that belong to scans."""
        return tuple(
            path
            for photo in self.photos
            for field, path in photo.templates.items()
            if field != "calibration.camera"
        )
