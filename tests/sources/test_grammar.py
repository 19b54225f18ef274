"""Names of real datasets, as their papers and readers give them, and what is guessed of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from trees import tree

from pipeline.registry.naming import glob_regex
from pipeline.sources.globs import include_globs
from pipeline.sources.grammar import guess_grammar

BU3DFE = [
    f"{s}{i:04}/{s}{i:04}_{e}{level:02}{'WH' if i < 2 else 'AE'}_F3D.wrl"
    for s in "FM"
    for i in (1, 2, 3)
    for e, level in [("NE", 0), ("AN", 1), ("AN", 2), ("HA", 1), ("HA", 2)]
]
NAMES = {
    "stirling": (
        [f"scans/{s}/{s}{1000 + i}_{e}.obj" for s in "FM" for i in range(4) for e in ("N", "NH")],
        "scans/M/M1003_NH.obj",
        {"subject": "M1003", "sex": "M", "expression": "NH"},
    ),
    "d3dfacs": (
        [f"{n}/{a}/{a}_{i}.ply" for n in ("Joe", "Ann") for a in ("1+2", "4") for i in (1, 55)],
        "Joe/1+2/1+2_55.ply",
        {"subject": "Joe", "expression": "1+2", "frame": "55"},
    ),
    "bu3dfe": (BU3DFE, "M0003/M0003_HA02AE_F3D.wrl",
               {"subject": "M0003", "sex": "M", "expression": "HA", "frame": "02"}),
    "headspace": (
        [f"subjects/{i:05}/{17000000000 + 37 * i:012}.obj" for i in range(1, 9)],
        "subjects/00001/017000000037.obj",
        {"subject": "00001", "frame": "017000000037"},
    ),
    "facewarehouse": (
        [f"Tester_{i}/TrainingPose/pose_{k}.obj" for i in range(1, 12) for k in range(20)],
        "Tester_11/TrainingPose/pose_7.obj",
        {"subject": "11", "expression": "7"},
    ),
    "frgc": (
        [f"{d}range/0{4000 + i}d{k}{i}.abs.gz"
         for d, k in (("Spring2003", 10), ("Fall2003", 20)) for i in range(6)],
        "Fall2003range/04003d203.abs.gz",
        {"subject": "04003", "session": "Fall", "frame": "203"},
    ),
    "coma": (
        [f"FaceTalk_{a}_TA/{e}/{e}.{i:06}.ply" for a in ("170725_00137", "170728_03272")
         for e in ("bareteeth", "mouth_open") for i in (1, 2)],
        "FaceTalk_170725_00137_TA/mouth_open/mouth_open.000002.ply",
        {"subject": "170725_00137", "expression": "mouth_open", "frame": "000002"},
    ),
    "facescape": (
        [f"{i}/models_reg/{k + 1}_{e}.obj" for i in (1, 2, 122)
         for k, e in enumerate(("neutral", "smile", "mouth_stretch", "anger"))],
        "122/models_reg/3_mouth_stretch.obj",
        {"subject": "122", "expression": "mouth_stretch", "frame": "3"},
    ),
    "faceverse": (
        [f"{i:03}_{k:02}.obj" for i in range(1, 6) for k in range(1, 22)],
        "005_21.obj",
        {"subject": "005", "expression": "21"},
    ),
    "expressions first": (
        [f"{e}/p{i:02}.obj" for e in ("neutral", "smile") for i in range(5)],
        "smile/p03.obj",
        {"subject": "p03", "expression": "smile"},
    ),
    "sessions first": (
        [f"session{s}/p{i}/{e}.ply" for s in (1, 2) for i in range(3) for e in ("neutral", "open")],
        "session2/p1/open.ply",
        {"subject": "p1", "session": "2", "expression": "open"},
    ),
    "dates": (
        [f"S{i:02}/2021{m:02}03/S{i:02}_{k}.ply" for i in range(3) for m in (1, 5) for k in (1, 2)],
        "S02/20210503/S02_1.ply",
        {"subject": "S02", "session": "20210503", "frame": "1"},
    ),
    "hexadecimal people": (
        [f"{h}/full_head.obj" for h in ("1b2a8613401e42a8", "3b5a2eb92a501d54",
                                        "444ea0dc5e85ee0b")],
        "444ea0dc5e85ee0b/full_head.obj",
        {"subject": "444ea0dc5e85ee0b"},
    ),
    "one person": (
        [path for path in BU3DFE if path.startswith("F0001")],
        "F0001/F0001_NE00WH_F3D.wrl",
        {"subject": "F0001", "expression": "NE", "frame": "00"},
    ),
    "one scan": (["scan.obj"], "scan.obj", {"subject": "scan"}),
    "numbers": ([f"{i:02}.stl" for i in (1, 2, 6, 14)], "06.stl", {"subject": "06"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_datasets(name: str) -> None:
    paths, path, wanted = NAMES[name]
    grammar = guess_grammar(paths)
    assert grammar.of(path) == wanted
    for one in paths:
        assert re.fullmatch(grammar.name, one)
    assert not re.fullmatch(grammar.name, path + ".bak")
    (glob,) = include_globs(paths, grammar)
    assert all(glob_regex(glob).fullmatch(one) for one in paths)
    assert not glob_regex(glob).fullmatch("x/y/z/other.txt")


def test_values_like_those_seen_fit_too() -> None:
    paths = NAMES["bu3dfe"][0]
    grammar = guess_grammar(paths)
    assert grammar.of("F0100/F0100_AN04BL_F3D.wrl")["subject"] == "F0100"
    assert not re.fullmatch(grammar.name, "F0100/F0101_AN04BL_F3D.wrl"), "the folder's name"


def test_counted_expressions_are_no_list() -> None:
    paths = [f"F{i:03}/T{k}/{n:04}.obj" for i in (1, 2) for k in (1, 8) for n in (0, 41)]
    assert guess_grammar(paths).of("F007/T5/0100.obj")["expression"] == "T5"


def test_capital_and_small_letters_are_one() -> None:
    grammar = guess_grammar(["f01_N.obj", "F01_n.OBJ", "m02_N.obj", "F03_smile.obj"])
    assert grammar.case == "upper" and grammar.name.startswith("(?i)")
    assert grammar.groups["subject"] == ("F01", "F03", "M02")
    assert grammar.groups["expression"] == ("N", "SMILE")
    assert grammar.of("F01_n.OBJ") == {"subject": "F01", "sex": "F", "expression": "N"}


@pytest.mark.parametrize(
    "paths",
    [
        ["a/b/1.obj", "a/2.obj", "c/d/3.obj"],
        ["1.obj", "a/2.obj"],
        ["A/one thing.obj", "B/two-things.obj", "B/3.obj"],
        ["f1001_n.obj", "m1037b_2_nh.obj", "f1_x_y_z.obj"],
        ["_.obj", "-.obj", "a b.obj"],
        ["[x]{1}.obj", "(y)$.obj", "z|*.obj"],
        ["ä/ö.obj", "ü/ß.obj"],
        ["..obj", "a..obj"],
    ],
)
def test_odd_names_fit_some_grammar(paths: list[str]) -> None:
    grammar = guess_grammar(paths)
    for path in paths:
        assert grammar.of(path)["subject"]


def test_what_has_no_group_is_told() -> None:
    more = ("a_7", "b_7", "a_8", "b_8")
    paths = [f"p{i}_{e}_{m}.ply" for i in range(3) for e in ("smile", "rest") for m in more]
    assert guess_grammar(paths).notes == ("2 values vary without a group of their own: a, b",)
    with pytest.raises(ValueError, match="no path"):
        guess_grammar([])


def partition(paths: Mapping[str, str]) -> bool:
    """Whether the guess tells the people of the paths apart, and takes none for two."""
    grammar = guess_grammar(sorted(paths))
    found = {grammar.of(path)["subject"] for path in paths}
    pairs = {(grammar.of(path)["subject"], person) for path, person in paths.items()}
    return len(found) == len(pairs) == len(set(paths.values()))


def test_people_of_made_up_folders() -> None:
    wrong = [seed for seed in range(200) if not partition(tree(seed))]
    assert wrong == []


def test_a_word_that_tells_folders_apart_is_in_the_name() -> None:
    people = ("Rig  C", "Rig  E", "Old Rig  C", "Anna  C", "Anna  B", "Ben  D")
    grammar = guess_grammar([f"{who}/scan_{k}.ply" for who in people for k in (1, 2)])
    assert grammar.groups["subject"] == tuple(sorted(people))
    assert grammar.groups["frame"] == ("1", "2")
    assert grammar.notes == (
        "the first word of several subjects (anna of 2, rig of 2): are they different people?",
    )


def test_folders_and_subjects_that_differ_in_number_are_told() -> None:
    folders = ("Anna 1", "Anna 2", "Ben 1", "Carl 1", "Dora 1", "Emil 2")
    grammar = guess_grammar([f"{who}/{e}.ply" for who in folders for e in ("neutral", "smile")])
    assert len(grammar.groups["subject"]) == 5
    assert grammar.notes[0] == "6 folders, 5 subjects: is each folder of another person?"
    takes = guess_grammar([f"p{i:02}_{take}/smile.ply" for i in range(4) for take in "ABC"])
    assert takes.groups["subject"] == ("p00", "p01", "p02", "p03")
    assert takes.notes[0].startswith("12 folders, 4 subjects: ")


def test_people_are_what_recurs_from_one_kind_of_file_to_the_next() -> None:
    paths = [f"{kind}/{who}.ply" for kind in ("subjects", "registrations") for who in "xyz"]
    grammar = guess_grammar([*paths, "atlas/atlas.ply"])
    assert grammar.of("subjects/x.ply")["subject"] == grammar.of("registrations/x.ply")["subject"]
    assert grammar.groups == {"subject": ("atlas", "x", "y", "z")}
    assert grammar.notes == (
        "atlas, registrations, subjects: kinds of files, no people? "
        "Exclude those that are no scans",
        "of one kind alone, and so perhaps no people: atlas",
    )
