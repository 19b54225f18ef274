"""Why and where scans are refused: the codes that refused scans are counted by.

Quarantine, ledger, progress and messages share a code, so that nobody has to parse a sentence.
`docs/reference/refusals.md` is generated from the enumeration.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

RefusedAt = Literal[
    "catalogue", "read", "landmarks", "normalise", "register", "quality", "views", "worker"
]
"""Where on its way a scan is refused, or a view of it."""


class Code(StrEnum):
    """Why a scan is refused, or left for a person to review. Codes are never renamed or reused."""

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str = "", remedy: str = "") -> Code:
        code = str.__new__(cls, value)
        code._value_, code.meaning, code.remedy = value, meaning, remedy
        return code

    # files
    UNREADABLE = (
        "unreadable",
        "the file is missing, empty, no regular file, or may not be read",
        "check the path and its permissions",
    )
    NOT_THIS_FORMAT = (
        "not_this_format",
        "the content is not what the suffix or the registry says",
        "name the format that the file has, or fetch the real file (Git LFS, download pages)",
    )
    DAMAGED = (
        "damaged",
        "the file contradicts itself, ends early, or holds values that are no numbers",
        "copy it again from its source",
    )
    UNSUPPORTED = (
        "unsupported",
        "a variant of the format that facefold does not read",
        "convert the file",
    )
    NO_SURFACE = (
        "no_surface",
        "no vertices or no usable triangles are left",
        "leave the file out by `scans.exclude`, or export the mesh again",
    )
    # the folder against its registry
    UNEXPLAINED = (
        "unexplained",
        "no rule of the registry explains the file",
        "add it to `scans.include`, `.companions` or `.exclude`",
    )
    NAME = (
        "name",
        "the file's name does not fit `scans.name`",
        "correct the pattern, or exclude the file with a reason",
    )
    AMBIGUOUS = (
        "ambiguous",
        "two files claim one scan, or a rule fits in more than one way",
        "make the rule say which file is meant",
    )
    COMPANION = (
        "companion",
        "a table, transform or metadata file that a rule of the registry needs has no value for "
        "this scan",
        "complete the table, or exclude the scan with a reason",
    )
    # landmarks
    LANDMARKS_UNREADABLE = (
        "landmarks_unreadable",
        "the landmark file cannot be read, or its count or indices do not fit",
        "check the landmark format and scheme of the registry",
    )
    LANDMARKS_APART = (
        "landmarks_apart",
        "the landmarks do not lie on the scan",
        "check that both are of one capture, in one unit and frame, and how indices are counted",
    )
    LANDMARKS_ORDER = (
        "landmarks_order",
        "the landmarks are not in the order of their scheme, or left and right are swapped",
        "name the scheme that the file follows, or check for a mirrored export",
    )
    # size and pose
    SIZE = (
        "size",
        "the size contradicts the unit or the source's limits",
        "correct `unit`, or widen the source's `limits` if its people are so",
    )
    UNIT_OPEN = (
        "unit_open",
        "`unit: auto` cannot decide: no real unit fits, or several do",
        "name the unit",
    )
    AXES = (
        "axes",
        "the face is turned further from upright than the source allows",
        "correct `axes`, or raise `limits.turn_deg` if heads are turned so",
    )
    # registration
    NO_FACE = (
        "no_face",
        "no pose lays a face onto the scan",
        "check that the scan shows a face; give landmarks",
    )
    POSE_OPEN = (
        "pose_open",
        "two poses fit about equally well",
        "give landmarks",
    )
    TOO_FEW_POINTS = (
        "too_few_points",
        "too few points, vertices or landmarks to start from, or they lie on a line or a plane",
        "check that this is the whole scan; give at least four landmarks that span the face",
    )
    SINGULAR = (
        "singular",
        "the scan does not determine the registration: its equations are singular",
        "check that the scan is the surface of a face",
    )
    DIVERGED = (
        "diverged",
        "the registration went astray",
        "give landmarks; check unit and axes",
    )
    # quality
    SURFACE_DISTANCE = (
        "surface_distance",
        "the registered face is far from the scan's surface",
        "look at the scan for clutter, holes and motion",
    )
    LANDMARK_ERROR = (
        "landmark_error",
        "the registered landmarks are far from the scan's",
        "check the landmarks and their scheme",
    )
    COVERAGE = ("coverage", "the scan shows too little of the face", "use a fuller scan")
    FLIPPED = ("flipped", "too many triangles are turned over", "look at the scan for folds")
    BENT = ("bent", "the face is bent further off the model than faces are", "look at the scan")
    IMPLAUSIBLE_SHAPE = (
        "implausible_shape",
        "the identity coefficients are further from the mean than people's are",
        "check unit and scale; look at the scan",
    )
    NOT_A_FACE = (
        "not_a_face",
        "relief or normals are not those of a face",
        "check that the scan shows a face",
    )
    SLID = (
        "slid",
        "a part of the registered face is stretched against the model, or lies where the scan is "
        "curved as another part is: it slid along the surface",
        "look at the part; give landmarks of mouth and eye corners",
    )
    UNCERTAIN = (
        "uncertain",
        "the scan does not determine where a part of the face is",
        "look at the part; give landmarks; use a finer scan",
    )
    NOT_SHOWN = (
        "not_shown",
        "the scan does not show eyes or lips as faces have them: it is smooth, or they are covered",
        "look at the scan; leave out scans without eyes or lips",
    )
    COVERED = (
        "covered",
        "something lies in front of the face: hair, a scarf, a hand",
        "look at the scan; crop it",
    )
    ROUGH = (
        "rough",
        "the surface is wavy, doubled or full of spikes: motion, noise",
        "look at the scan; use another capture",
    )
    NOT_NEUTRAL = (
        "not_neutral",
        "the source files the scan as neutral, and its mouth is open",
        "correct what the registry calls neutral",
    )
    NOT_THIS_PERSON = (
        "not_this_person",
        "the scan is another person than the rest of its subject's",
        "look at both; decide it in `identities.yaml`",
    )
    CLUTTER = (
        "clutter",
        "a large share of the file was removed or not read",
        "look at the contact sheet; crop the scan",
    )
    # views
    CAMERA_OPEN = (
        "camera_open",
        "the points do not determine the camera of a photo: too few, on a line, or behind it",
        "check that the photo's landmarks or pixels are those of the scan",
    )
    CAMERA_ERROR = (
        "camera_error",
        "the landmarks of a photo lie far from where its camera sees the registered ones",
        "check that the photo and its landmarks are of this scan, in this order, and not mirrored",
    )
    PHOTO_APART = (
        "photo_apart",
        "a photo and the range image it is said to be aligned with show the face at different "
        "places",
        "leave the photo out, or give the one that was taken with the scan",
    )
    OUT_OF_PICTURE = (
        "out_of_picture",
        "the face lies outside the picture for the most part",
        "check that the camera or the landmarks are those of this picture",
    )
    FACE_HIDDEN = (
        "face_hidden",
        "the scan itself hides the face in the picture for the most part",
        "look at the scan; leave out scans whose face is covered",
    )
    # workers
    TOO_SLOW = ("too_slow", "a stage took longer than `scan_seconds`", "raise the limit; `--retry`")
    OUT_OF_MEMORY = (
        "out_of_memory",
        "a stage needed more memory than a worker has",
        "give workers more memory; `--retry`",
    )
    CRASHED = ("crashed", "the scan ended its worker process", "report it; `--retry`")
    INTERNAL = ("internal", "facefold raised an error that it does not expect", "report it")
