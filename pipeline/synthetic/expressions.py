"""`synth_expressions`: faces with expressions and their intensity, laid out as BU-3DFE's."""

from __future__ import annotations

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource, nearest
from pipeline.synthetic.files import in_front, write_bnd, write_picture, write_wrl
from pipeline.synthetic.paint import painted_texture
from pipeline.synthetic.scanner import scan_head

FIRST_PERSON = 100
TEXTURE_PX = 384, 384
EXTRA = 1
"""Files besides the good scans: one that is cut off."""
TAKES = (
    ("NE00", "neutral", 1.0),
    ("HA04", "smile", 1.0),
    ("OP03", "open", 0.75),
    ("SU03", "surprise", 0.75),
    ("HA02", "smile", 0.5),
)
"""Code and intensity in the name, expression, share of its full strength."""
BU83 = (
    *(39, 38, 38, 37, 36, 41, 41, 40),
    *(42, 43, 43, 44, 45, 46, 46, 47),
    *(17, 18, 19, 20, 21, 21, 20, 19, 18, 17),
    *(22, 23, 24, 25, 26, 26, 25, 24, 23, 22),
    *(27, 28, 29, 31, 31, 32, 33, 34, 35, 35, 29, 28),
    *range(48, 68),
    *range(1, 16),
)
"""The iBUG-68 point nearest to each of the 83: right in rows the two schemes share, plausible in
the others."""


def write_expressions(cast: Cast, delivery: Delivery, good: int) -> SyntheticSource:
    """`good` sound scans, up to five of a person, and one cut off in its list of points."""
    scans = [write_scan(cast, delivery, i) for i in range(good)]
    cut = write_scan(cast, delivery, good, truth=False)
    whole = (delivery.root / cut).read_bytes()
    (delivery.root / cut).write_bytes(whole[: len(whole) // 4])
    return SyntheticSource(
        delivery.source, delivery.root, (*scans, cut), {cut: Defect("read", "cut off")}
    )


def write_scan(cast: Cast, delivery: Delivery, i: int, truth: bool = True) -> str:
    """Writes the i-th scan with what belongs to it; returns its path relative to the root."""
    rng = delivery.rng(i)
    person, (code, expression, share) = i // len(TAKES), TAKES[i % len(TAKES)]
    subject = f"{'FM'[person % 2]}{1 + person:04d}"
    stem = f"{subject}/{subject}_{code}WH_F3D"
    pose = cast.pose(FIRST_PERSON + person, rng, expression, share)
    capture = scan_head(
        cast.model,
        cast.rings,
        pose.vertices_mm,
        rng,
        keep=cast.frame.face_only,
        back=False,
        holes=2,
        noise_mm=0.2,
    )
    path = delivery.root / f"{stem}.wrl"
    vertices = delivery.to_file(capture.vertices_mm)
    uv, image = in_front(capture.vertices_mm, capture.faces), f"{subject}_{code}WH_F2D.png"
    write_wrl(path, vertices, capture.faces, uv, image)
    who = cast.complexion(FIRST_PERSON + person)
    texture = painted_texture(cast.surface_of(capture), uv, cast.painter, who, *TEXTURE_PX)
    write_picture(path.with_name(image), texture)
    points = delivery.to_file(capture.landmarks_mm[list(BU83)])
    write_bnd(path.with_suffix(".bnd"), nearest(vertices, points), vertices)
    if truth:
        delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.wrl"
