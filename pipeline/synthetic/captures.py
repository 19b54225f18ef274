"""`synth_cm`: OBJ of polygons in centimetres, x forward and z up, laid out as Headspace."""

from __future__ import annotations

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource, nearest
from pipeline.synthetic.files import write_indices, write_polygon_obj, write_text
from pipeline.synthetic.hair import bumpy_hair
from pipeline.synthetic.objects import torus_knot
from pipeline.synthetic.scanner import scan_head

FIRST_PERSON = 400
EXTRA = 2
"""Files besides the good scans: one with vertices that are no numbers, one of a knotted tube."""


def write_captures(cast: Cast, delivery: Delivery, good: int) -> SyntheticSource:
    """`good` sound scans of as many people, every third without landmarks; two broken files."""
    scans = [write_scan(cast, delivery, i) for i in range(good)]
    holed = write_scan(cast, delivery, good, truth=False)
    lines = (delivery.root / holed).read_text().split("\n")
    lines[100:140] = ["v nan nan nan"] * 40
    write_text(delivery.root / holed, "\n".join(lines))
    knot = f"subjects/{good + 2:05d}/{stamp(good + 1)}.obj"
    vertices, faces = torus_knot()
    write_polygon_obj(delivery.root / knot, delivery.to_file(vertices), list(faces))
    broken = {holed: Defect("read", "finite"), knot: Defect("register", "lays a face")}
    return SyntheticSource(delivery.source, delivery.root, (*scans, holed, knot), broken)


def stamp(i: int) -> str:
    """The capture's time as Headspace names its files."""
    return f"2103{12 + i // 8:02d}{9 + i % 8:02d}{(17 * i) % 60:02d}{(29 * i) % 60:02d}"


def write_scan(cast: Cast, delivery: Delivery, i: int, truth: bool = True) -> str:
    """Writes the i-th scan with what belongs to it; returns its path relative to the root."""
    rng = delivery.rng(i)
    stem = f"subjects/{i + 1:05d}/{stamp(i)}"
    expression = ("neutral", "neutral", "pucker", "neutral")[i % 4]
    pose = cast.pose(FIRST_PERSON + i, rng, expression)
    capture = scan_head(
        cast.model,
        cast.rings,
        pose.vertices_mm,
        rng,
        keep=lambda template: cast.frame.above_neck(template, 50.0),
        growth_mm=bumpy_hair(cast.frame, rng) if i % 2 else None,
        holes=5,
        noise_mm=0.2,
        polygons=True,
    )
    path = delivery.root / f"{stem}.obj"
    vertices = delivery.to_file(capture.vertices_mm)
    write_polygon_obj(path, vertices, capture.polygons)
    if i % 3 != 1:
        points = delivery.to_file(capture.landmarks_mm)
        write_indices(path.with_name(f"ldmks{path.stem}.txt"), nearest(vertices, points))
    gender = ("F", "M")[i % 2]
    person = f"id:{i + 1}\ngender:{gender}\nage:{20 + 3 * i}\nexpression:{expression}\n"
    write_text(path.with_name(f"{path.stem}_person.txt"), person)
    if truth:
        delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.obj"
