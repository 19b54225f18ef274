"""menpo `.ljson`: JSON with `groups.<name>.landmarks.points`, or `landmarks.points`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN
from pipeline.landmarks.rows import landmark_text
from pipeline.types import RawLandmarks


def read_ljson(path: Path) -> RawLandmarks:
    """3D points, null rows missing; names are the label of each point where labels give one each.

    Raises FormatError for broken JSON, several groups, and points that are not 3D.
    """
    try:
        document = json.loads(landmark_text(path))
    except (ValueError, RecursionError) as error:  # also for a number of thousands of digits
        raise FormatError(path, f"not whole JSON: {error}", COPY_AGAIN) from error
    group = only_group(path, document)
    try:
        points = np.array(group["landmarks"]["points"], np.float64)
        names = point_labels(group, len(points))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"no landmarks.points, or labels without mask: {type(error).__name__} {error}"
        raise FormatError(path, fault, "export it again with menpo") from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        fault = f"points of shape {points.shape}, expected (L, 3)"
        raise FormatError(path, fault, "export 3D landmarks")
    return RawLandmarks(points=points, names=names)


def only_group(path: Path, document: Any) -> Any:
    """The document's one group of landmarks; files of version 1 are that group themselves."""
    groups = document.get("groups") if isinstance(document, dict) else None
    if groups is None:
        return document
    if not isinstance(groups, dict) or len(groups) != 1:
        fault = f"{len(groups)} groups of landmarks, expected 1"
        raise FormatError(path, fault, "export one group a file")
    return next(iter(groups.values()))


def point_labels(group: dict[str, Any], n_points: int) -> tuple[str, ...]:
    """The label of each point; none where a point has several or none."""
    found: dict[int, str] = {}
    for label in group.get("labels") or ():
        for i in label["mask"]:
            if found.setdefault(i, label["label"]) != label["label"]:
                return ()
    return tuple(found[i] for i in sorted(found)) if len(found) == n_points else ()
