"""AFLW2000-3D: 68 points of photos in all poses (Zhu et al., "Face Alignment Across Large Poses",
CVPR 2016), and the same photos annotated again (Bulat and Tzimiropoulos, ICCV 2017).

The error of an image is the mean distance of its points, seen in the image, relative to the root of
the area of the true points' box. What is published is the mean of three means: of images with a
yaw up to 30°, up to 60° and beyond. So an image of the smallest bin counts several times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    VARIANTS,
    Benchmark,
    Case,
    Cases,
    Choice,
    Finding,
    Given,
    Prediction,
    Row,
    Score,
    Variant,
    no_points,
)
from pipeline.evaluation.predictions.image_points import (
    FORMATS,
    errors_percent,
    off_as_a_whole,
    read_numbers,
    read_points,
    weak_perspective,
)
from pipeline.evaluation.predictions.meshes import prediction_file, stem_of
from pipeline.formats.content import decoded, read_bytes
from pipeline.formats.mat import variables
from pipeline.landmarks.check import average_face
from pipeline.types import Array

TRUTHS = {"2d": "AFLW2000-3D.pts68.npy", "reannotated": "AFLW2000-3D-Reannotated.pts68.npy"}
"""Mode -> file of 3DDFA's `test.configs`."""
LIST, YAW, BOXES = "AFLW2000-3D_crop.list", "AFLW2000-3D.pose.npy", "AFLW2000-3D_crop.roi_box.npy"
CROP_PX = 120.0
"""Side of 3DDFA's crops."""
BINS = ((30.0, "yaw to 30°"), (60.0, "yaw to 60°"), (np.inf, "yaw beyond 60°"))
"""Largest |yaw| and the group's name."""
PUBLISHED = 2000
MOST = 64
"""Predictions that are looked at for what is wrong with all."""


class _Image(NamedTuple):
    stem: str
    yaw_deg: float
    truth: tuple[Path, ...]
    facts: Mapping[str, float]


def cases(given: Given) -> Cases:
    """A case an image of 3DDFA's `test.configs`, or of the original `AFLW2000/*.mat`.

    Predictions are `<image>.npy` or `.txt`, see `read_points`. Raises FacefoldError if the root has
    neither, if its files do not fit together, and for a file of yaws of another length.
    """
    root = Path(given.root)
    folder = next((f for f in (root / "test.configs", root) if (f / LIST).is_file()), None)
    images = _mat_images(root) if folder is None else _listed_images(folder)
    if not images:
        raise FacefoldError(
            f"{root}: no test.configs/{LIST} of 3DDFA and no AFLW2000/*.mat; name the folder that "
            "holds one of them"
        )
    yaws = _yaws(given, images)
    found = tuple(_case(image, yaw, given) for image, yaw in zip(images, yaws, strict=True))
    asked = {case.prediction for case in found}
    there = sorted(Path(given.predictions).glob("*")) if given.predictions else []
    extra = tuple(p for p in there if p.suffix.lower()[1:] in FORMATS and p not in asked)
    return Cases(found, (*_another_set(found), *_wrong_frame(found, given)), extra)


def _case(image: _Image, yaw_deg: float, given: Given) -> Case:
    group = next(name for limit, name in BINS if abs(yaw_deg) <= limit)
    facts = {**image.facts, "yaw_deg": float(yaw_deg)}
    prediction = prediction_file(given.predictions, image.stem, FORMATS)
    return Case(image.stem, image.stem, group, image.truth, prediction, facts=facts)


def _listed_images(folder: Path) -> list[_Image]:
    """Of 3DDFA's files, whose arrays have a row an image of the list."""
    lines = decoded(folder / LIST, read_bytes(folder / LIST)).split()
    truths = tuple(path for name in TRUTHS.values() if (path := folder / name).is_file())
    if not truths:
        raise FacefoldError(f"{folder}: neither {' nor '.join(TRUTHS.values())}; copy them there")
    yaws = read_numbers(folder / YAW).ravel()
    boxes = read_numbers(folder / BOXES) if (folder / BOXES).is_file() else None
    counts = {LIST: len(lines), YAW: len(yaws)}
    counts |= {path.name: len(read_numbers(path)) for path in truths}
    counts |= {} if boxes is None else {BOXES: len(boxes)}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise FacefoldError(f"{folder}: images in {said}, expected as many in each; copy it again")
    found = []
    for row, line in enumerate(lines):
        facts = {"row": float(row)}
        if boxes is not None:
            facts |= dict(zip(("x0", "y0", "x1", "y1"), boxes[row, :4].astype(float), strict=True))
        found.append(_Image(stem_of(line), float(yaws[row]), truths, facts))
    return found


def _mat_images(root: Path) -> list[_Image]:
    """Of the original delivery."""
    paths = sorted(root.glob("*.mat")) or sorted((root / "AFLW2000").glob("*.mat"))
    return [
        _Image(path.stem, float(np.degrees(_matrix(path, "Pose_Para", 7).ravel()[1])), (path,), {})
        for path in paths
    ]


def _matrix(path: Path, name: str, n_values: int) -> Array:
    found = variables(path, read_bytes(path))[0].get(name.lower())
    if found is None or found.size != n_values:
        got = "none" if found is None else f"shape {found.shape}"
        raise FacefoldError(
            f"{path}: no matrix {name} of {n_values} values but {got}; copy it again from AFLW2000"
        )
    return found


def _yaws(given: Given, images: Sequence[_Image]) -> Array:
    """(N,) degrees: the delivered ones, or the user's."""
    named = given.choices.get("yaw", "")
    if not named:
        return np.array([image.yaw_deg for image in images])
    path = next((p for p in (given.root / named, Path(named)) if p.is_file()), Path(named))
    yaws = read_numbers(path).ravel().astype(np.float64)
    if len(yaws) != len(images) or not np.isfinite(yaws).all():
        raise FacefoldError(
            f"{path}: {int(np.isfinite(yaws).sum())} finite yaws, expected {len(images)}, one an "
            "image in the order of the delivery, in degrees"
        )
    return yaws


def read(case: Case, given: Given) -> Prediction:
    """Raises FormatError for a file that does not hold 68 points, and FacefoldError for crop
    coordinates where no boxes are delivered."""
    assert case.prediction is not None
    points = read_points(case.prediction)
    if given.choices.get("frame", "image") == "crop":
        if "x0" not in case.facts:
            raise FacefoldError(
                f"frame=crop: {given.root} has no {BOXES}; save the points in pixels of the image"
            )
        points = _from_crop(points, case.facts)
    return _prediction(points)


def _prediction(points: Array) -> Prediction:
    return Prediction(points, np.zeros((0, 3), np.int64), no_points())


def _from_crop(points: Array, facts: Mapping[str, float]) -> Array:
    """(68,2) px of the crop -> of the image."""
    corner = np.array([facts["x0"], facts["y0"]])
    sides = np.array([facts["x1"], facts["y1"]]) - corner
    found: Array = points * sides / CROP_PX + corner
    return found


def _true_points(case: Case) -> dict[str, Array]:
    """Mode -> (68,2) px."""
    if case.truth[0].suffix == ".mat":
        return {"2d": _matrix(case.truth[0], "pt3d_68", 3 * 68)[:2].T.astype(np.float64)}
    named = {path.name: path for path in case.truth}
    found = {}
    for mode, name in TRUTHS.items():
        if name in named:
            points = read_numbers(named[name])
            if points.ndim != 3 or points.shape[1] not in (2, 3) or points.shape[2] != 68:
                fault = f"shape {points.shape}, expected (images, 2 or 3, 68)"
                raise FacefoldError(f"{named[name]}: {fault}; copy it again from 3DDFA")
            found[mode] = points[int(case.facts["row"]), :2].T.astype(np.float64)
    return found


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Modes `2d` and `reannotated`, as far as there are truths; distances are per cent of the box.

    Nothing is aligned, so that both variants score an image alike: their means differ.
    """
    found = []
    for mode, truth in _true_points(case).items():
        errors = errors_percent(prediction.vertices, truth)
        figures = {"nme_percent": float(errors.mean())}
        single = errors.astype(np.float32)
        found += [Score(mode, variant, single, figures=figures) for variant in VARIANTS]
    return found


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """As published, of all: mean and standard deviation (ddof 0) of the means of the bins that have
    images; strictly: of all images alike. Of a bin: of its images."""
    values: dict[tuple[str, Variant], dict[str, list[float]]] = {}
    for case, scores in scored:
        for score in scores:
            bins = values.setdefault((score.mode, score.variant), {})
            bins.setdefault(case.group, []).append(score.figures["nme_percent"])
    found = []
    for (mode, variant), bins in sorted(values.items()):
        every = [value for own in bins.values() for value in own]
        of_all = [float(np.mean(own)) for own in bins.values()]
        counted = of_all if variant == AS_PUBLISHED else every
        found.append(Row(mode, variant, "", "", len(every), _mean_std(counted)))
        found += [
            Row(mode, variant, name, "", len(bins[name]), _mean_std(bins[name]))
            for _, name in BINS
            if name in bins
        ]
    return found


def _mean_std(values: Sequence[float]) -> dict[str, float]:
    return {"mean_percent": float(np.mean(values)), "std_percent": float(np.std(values))}


def mean_head(case: Case, given: Given) -> Prediction:
    """The mean head's points in the pose that fits the true ones best, of the original truth if it
    is there: so its error is of shape and expression alone. Those of an average face if the model
    has not all 68."""
    marks = given.model.landmarks
    points = average_face()[0]
    if marks is not None:
        own = marks.positions_68(given.model.template_mm, given.model.faces)
        points = own if np.isfinite(own).all() else points
    return _prediction(weak_perspective(points, next(iter(_true_points(case).values()))))


def _another_set(found: Sequence[Case]) -> Iterator[Finding]:
    if len(found) == PUBLISHED:
        return
    counts = [sum(case.group == name for case in found) for _, name in BINS]
    yield Finding(
        "another_set",
        f"{len(found)} images ({', '.join(map(str, counts))} in the bins of yaw), expected "
        f"{PUBLISHED} of AFLW2000-3D; compare with no published figure",
        figures={"images": float(len(found))},
    )


def _wrong_frame(found: Sequence[Case], given: Given) -> list[Finding]:
    """What is wrong with all predictions, by up to MOST of them."""
    delivered = [case for case in found if case.prediction is not None]
    chosen = np.unique(np.linspace(0, len(delivered) - 1, min(MOST, len(delivered))).astype(int))
    read_ones = list[tuple[Case, Array]]()
    for i in chosen:
        with suppress(FacefoldError):  # which scoring it reports
            read_ones.append((delivered[i], read(delivered[i], given).vertices))
    if not read_ones:
        return []
    truths = [next(iter(_true_points(case).values())) for case, _ in read_ones]
    others = {}
    if given.choices.get("frame", "image") == "image" and "x0" in delivered[0].facts:
        turned = [_from_crop(points, case.facts) for case, points in read_ones]
        others["taken for pixels of the crop"] = np.stack(turned)
    return off_as_a_whole(np.stack([points for _, points in read_ones]), np.stack(truths), others)


AFLW2000 = Benchmark(
    title="AFLW2000-3D",
    citation="Zhu et al., Face Alignment Across Large Poses: A 3D Solution, CVPR 2016",
    cases=cases,
    read=read,
    score=score,
    rows=rows,
    mean_head=mean_head,
    choices={
        "frame": Choice("pixels that predictions are in; crop: of 3DDFA's", ("image", "crop")),
        "yaw": Choice("a file of yaws in degrees, one an image, in place of the delivered", ()),
    },
    curve_limit=10.0,
    unit="%",
    neutral=False,
)
