"""Facts about the datasets that are too many for their miniatures, as their makers publish them."""

from __future__ import annotations

import numpy as np

from pipeline.registry import SourceRegistry, load_registry
from pipeline.registry.naming import fill

NPHM_NEUTRAL = {84: 3, 93: 8, 98: 1, 134: 21, 140: 1, 147: 2, 183: 24, 194: 23, 195: 1, 244: 1}
NPHM_NEUTRAL |= {261: 2, 283: 1, 364: 1, 365: 16}
"""Of all others it is 0, but for those that have none."""
NPHM_NONE = {23, 100, 105, 267, 335}
NPHM_BAD = {
    261: {19},
    88: {19},
    79: {16, 17, 18, 19, 20},
    100: {0},
    125: {1, 4, 5},
    106: {20},
    362: {20},
    345: {12},
    360: {6, 14},
    85: {2},
    292: {9},
    298: {23, 24, 25, 26},
    143: {0, 1, 5},
    163: {6},
    38: {1, 5, 8, 9, 10, 11, 15, 16, 17, 18, 19},
    236: {8},
    202: {24},
    98: {0},
    254: {1},
    204: {16},
    267: {0, 7, 13, 22},
    20: {6, 11, 13, 17},
    194: {0, 1, 2, 3, 9, 11, 14, 18, 22},
    209: {7, 8, 9, 10, 15, 20},
    105: {*range(16)},
    186: {7, 8, 9, 11, 21},
    343: {9, 11},
    363: {1, 11, 12, 14},
    350: {4},
}
"""bad_scans and invalid_expressions_test."""


def ruled(registry: SourceRegistry, path: str) -> SourceRegistry:
    groups = registry.groups(path)
    assert groups is not None, path
    return registry.under(registry.rule_of(groups, path))


def test_nphm_has_one_neutral_scan_a_person() -> None:
    registry = load_registry("nphm")
    for subject in range(17, 366):
        path = f"{subject:03d}/000/scan.ply"
        here = ruled(registry, path)
        neutral = {code for code in range(30) if here.is_neutral(f"{code:03d}")}
        expected = set() if subject in NPHM_NONE else {NPHM_NEUTRAL.get(subject, 0)}
        assert neutral == expected, subject
        out = {e for e in range(30) if registry.excluded_by(f"{subject:03d}/{e:03d}/scan.ply")}
        assert out == NPHM_BAD.get(subject, set()), subject
        # the makers list one neutral scan as invalid
        assert neutral & out == ({0} if subject == 143 else set()), subject


def test_frames_and_rotations() -> None:
    """The rows are the file's axes of the face's left, up and forward."""
    upright = {id: load_registry(id).axes for id in ("bp4dplus", "facescape_mv", "nphm")}
    assert all(axes is not None and axes.rotation().trace() == 3 for axes in upright.values())
    faceverse, headspace = load_registry("faceverse").axes, load_registry("headspace").axes
    assert faceverse is not None and headspace is not None
    np.testing.assert_array_equal(faceverse.rotation(), np.diag([1.0, -1.0, -1.0]))
    h = np.sqrt(0.5)
    about_x = np.array([[1, 0, 0], [0, h, h], [0, -h, h]])  # by −45°
    about_y = np.array([[h, 0, -h], [0, 1, 0], [h, 0, h]])
    np.testing.assert_allclose(headspace.rotation(), about_y @ about_x, atol=1e-12)


def test_one_person_of_florence_is_upright() -> None:
    registry = load_registry("florence")
    for subject in range(1, 54):
        path = f"subject_{subject:02d}/Model/frontal1/obj/110920150254.obj"
        axes = ruled(registry, path).axes
        assert axes is not None and registry.excluded_by(path) is None
        tilt = [] if subject == 44 else [{"x": -34}]
        assert list(axes.rotation_deg) == tilt, subject


def test_where_landmarks_are() -> None:
    for id, path, expected in (
        ("bp4dplus", "2D+3D/F001/T1/0000.obj", "3DFeatures/F001_T1_0001.bndplus"),
        ("bp4dplus", "2D+3D/F001/T1/0999.obj", "3DFeatures/F001_T1_1000.bndplus"),
        ("bu4dfe", "F001/Angry/000.wrl", "BU4DFE_BND_V1.1/F001/Angry/000.bnd"),
        ("stirling", "scans/F/f1002_nh.obj", "annotations/F_3D_N/f1002_nh.lnd"),
        (
            "florence",
            "subject_08/Model/frontal2/obj/120110093000.obj",
            "MICC_landmarks/subject_08/Model/frontal2/obj/120110093000.ljson",
        ),
    ):
        registry = load_registry(id)
        groups = registry.groups(path)
        assert registry.landmarks is not None and groups is not None
        assert fill(registry.landmarks.file, path, groups) == expected


def test_every_registration_of_mica_is_neutral_and_no_export_is_by_that() -> None:
    registry = load_registry("mica")
    for stem in ("F001/F001", "F0001/F0001_NE00WH_RAW", "Tester_1/pose_0", "02463/02463d546"):
        assert ruled(registry, f"registrations/{stem}.obj").neutral is None
    for stem in ("subject_01/110920150254", "00001/140316113024", "F1004/f1004b_N"):
        assert ruled(registry, f"registrations/{stem}.obj").neutral is None
    for stem in ("florence_44/x_smile", "synth_ply_s01/smile", "stirling_F1001/scans_F_F1001_N"):
        assert ruled(registry, f"registrations/{stem}.obj").neutral == ("neutral",)


FACESCAPE = """neutral smile mouth_stretch anger jaw_left jaw_right jaw_forward mouth_left
mouth_right dimpler chin_raiser lip_puckerer lip_funneler sadness lip_roll grin cheek_blowing
eye_closed brow_raiser brow_lower"""


def test_words_of_expressions_have_classes() -> None:
    for id in ("facescape_mv", "facescape_tu"):
        registry = load_registry(id)
        kinds = {word: registry.expression_class(word).value for word in FACESCAPE.split()}
        assert len(kinds) == 20 and "unknown" not in kinds.values()
        assert (kinds["neutral"], kinds["grin"], kinds["lip_roll"]) == ("neutral", "smile", "lips")
        assert (kinds["lip_funneler"], kinds["jaw_forward"]) == ("pucker", "jaw")
        assert registry.expression_class("yawn") == "unknown"
    for id, words in {
        "bu3dfe": {"NE00": "neutral", "HA01": "smile", "SU04": "surprise", "SA02": "sadness"},
        "bosphorus": {"N_N": "neutral", "E_HAPPY": "smile", "LFAU_27": "open_mouth"}
        | {"LFAU_12": "smile", "LFAU_12L": "lips", "UFAU_43": "eyes_closed", "YR_R10": "unknown"},
        "synth_ply": {"neutral": "neutral", "smile": "smile", "open": "open_mouth"},
        "synth_expressions": {"NE": "neutral", "SU": "surprise", "HA": "smile"},
        "vocaset": {"sentence01": "speech", "": "unknown"},
        "headspace": {"neutral": "neutral", "": "unknown"},
        "frgc": {"BlankStare": "neutral", "Happiness": "smile", "": "unknown"},
        # frames of a sequence show its expression only in part
        "bu4dfe": {"Happy": "unknown"},
        "famos": {"anger": "unknown"},
        "coma": {"bareteeth": "unknown"},
    }.items():
        registry = load_registry(id)
        assert {word: registry.expression_class(word).value for word in words} == words, id
