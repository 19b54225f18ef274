"""Which files belong to which scans, by their names."""

from __future__ import annotations

from pipeline.sources.belonging import find_templates, shortened
from pipeline.sources.grammar import guess_grammar


def templates(scans: list[str], files: list[str], shared: bool = False) -> dict[str, int]:
    grammar = guess_grammar(scans)
    found = find_templates(files, {scan: grammar.of(scan) for scan in scans}, shared=shared)
    for template in found:
        assert set(template.files) <= set(scans) and set(template.files.values()) <= set(files)
    return {template.text: len(template.files) for template in found}


PEOPLE = [f"scans/{s}/{s}{1000 + i}_N.obj" for s in "FM" for i in range(4)]
FRAMES = [f"p{i}/frame_{k:02}_mesh.obj" for i in range(3) for k in range(4)]


def test_files_of_the_scans_name() -> None:
    marks = [f"annotations/{s}_3D_N/{s.lower()}{1000 + i}_n.lnd" for s in "FM" for i in range(4)]
    assert templates(PEOPLE, marks) == {"annotations/{sex}_3D_N/{stem}.lnd": 8}
    assert templates(["scan.obj"], ["scan_lmks.npy"]) == {"{stem}_lmks.npy": 1}
    beside = [path.replace("F100", "ldmksF100").replace(".obj", ".txt") for path in PEOPLE[:4]]
    assert templates(PEOPLE, [*beside, "scans/readme.txt"]) == {"{dir}/ldmks{stem}.txt": 4}


def test_files_of_the_scans_groups() -> None:
    marks = [path.replace("mesh.obj", "lmk.pp") for path in FRAMES]
    assert templates(FRAMES, marks) == {"{dir}/frame_{frame}_lmk.pp": 12}
    below = [f"p{i}/marks/{k:02}.pp" for i in range(3) for k in range(4)]
    assert templates(FRAMES, below) in ({}, {"{dir}/marks/{frame}.pp": 12})
    lone = [f"p{i}/mesh.obj" for i in range(5)]
    assert templates(lone, [f"p{i}/landmarks.txt" for i in range(5)]) == {"{dir}/landmarks.txt": 5}


def test_words_inside_names() -> None:
    scans = [f"F0001/F0001_{e}{k:02}WH_F3D.wrl" for e, k in [("NE", 0), ("HA", 3), ("HA", 4)]]
    photos = [scan.replace("F3D.wrl", "F2D.png") for scan in scans]
    assert templates(scans, photos) == {"{dir}/{subject}_{expression}{frame}WH_F2D.png": 3}


def test_a_file_of_many_scans_is_no_scans_own() -> None:
    scans = [f"p{i}_{e}.obj" for i in range(4) for e in ("neutral", "smile")]
    portraits = [f"photos/p{i}.jpg" for i in range(4)]
    assert templates(scans, portraits) == {}
    assert templates(scans, ["readme.txt"], shared=True) == {}


def test_many_views_become_one_template() -> None:
    scans = [f"p{i}/{e}.obj" for i in range(3) for e in ("neutral", "smile")]
    grammar = guess_grammar(scans)
    photos = [path[:-4] + f"_view{v}.jpg" for path in scans for v in "abcdef"]
    found = find_templates(photos, {path: grammar.of(path) for path in scans})
    assert len(found) == 6 and shortened(found) == ["{dir}/{stem}_view*.jpg"]
    assert shortened(found[:2]) == ["{dir}/{stem}_viewa.jpg", "{dir}/{stem}_viewb.jpg"]
