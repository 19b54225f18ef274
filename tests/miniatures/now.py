"""NoW: scans of the validation set, seven picked points in a folder of their own."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

PEOPLE = ("FaMoS_180424_03335_TA", "FaMoS_180426_03336_TA")


def build(writing: Writing) -> None:
    name = "natural_head_rotation.000001"
    for i, subject in enumerate(PEOPLE):
        seen = head(28 + i, kind="whole")
        landmarks = f"scans_lmks_onlypp/{subject}/{name}_picked_points.pp"
        writing.scan(
            f"scans/{subject}/{name}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{name}.mtl"),
            subject=subject,
            expression="natural_head_rotation",
            landmarks=landmarks,
            frame=1,
            images=(f"scans/{subject}/{name}.png",),
        )
        writing.companion(f"scans/{subject}/{name}.mtl", files.material(f"{name}.png"))
        writing.companion(f"scans/{subject}/{name}.png", files.photo)
        points = writing.to_file(scheme_points(seen.landmarks_mm, "fg7"))
        writing.companion(landmarks, files.picked_points(points))
        writing.subjects[subject] = {}
    # a scan whose points are missing is no use to the benchmark
    lost = "FaMoS_180427_03338_TA"
    writing.scan(
        f"scans/{lost}/{name}.obj",
        seen,
        files.obj(*writing.surface(seen)),
        subject=lost,
        expression="natural_head_rotation",
        landmarks=f"scans_lmks_onlypp/{lost}/{name}_picked_points.pp",
        frame=1,
    )
    writing.refused[f"scans/{lost}/{name}.obj"] = "No such file"
    writing.subjects[lost] = {}
    writing.quarantine(f"scans/{PEOPLE[0]}/smile.000001.obj", "does not fit")
    writing.quarantine("README.md", "no rule explains")
