"""The build file: paths relative to it, every fault at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.build.config import load_build
from pipeline.errors import RegistryError
from tests.small_build import write_registry


def written(folder: Path, **fields: Any) -> Path:
    (folder / "scans").mkdir(exist_ok=True)
    config = {"store": "s.zarr", "sources": [{"registry": "synth_ply", "root": "scans"}]}
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump(config | fields))
    return path


OPEN = {"name": "Open", "url": "x", "redistribution": True, "commercial": True}


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_build(written(tmp_path))
    assert config.store_folder == tmp_path / "s.zarr"
    assert config.store_url is None
    assert config.work == tmp_path / ".facefold"
    assert config.sources[0].root == tmp_path / "scans"
    assert config.sources[0].registry == "synth_ply"


def test_a_registry_of_ones_own_is_a_path(tmp_path: Path) -> None:
    path = written(tmp_path, sources=[{"registry": "mine.yaml", "root": "scans"}])
    with pytest.raises(RegistryError, match=str(tmp_path / "mine.yaml")):
        load_build(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"workers": 0, "colour": "red"}, ["workers", "colour"]),
        ({"splits": {"train": 0.9}}, ["splits", "add up to 1"]),
        ({"splits": {"train": 1.5, "val": -0.5}}, ["splits"]),
        ({"model": "flame.pkl", "embedding": "e.npy"}, ["flame.pkl", "e.npy"]),
        (
            {"sources": [{"registry": "synth_ply", "root": "gone"},
                         {"registry": "no_such", "root": "scans"}]},
            ["gone", "no_such"],
        ),
        (
            {"sources": [{"registry": "synth_ply", "root": "scans"} for _ in range(2)]},
            ["synth_ply 2 times"],
        ),
        ({"sources": []}, ["sources"]),
        ({"worker": 2}, ["worker: got an unknown field", "did you mean workers?"]),
        ({"shard": 256}, ["shard: got an unknown field", "`batch` says", "remove it"]),
        ({"scan_seconds": 0, "worker_memory_gb": -1}, ["scan_seconds", "worker_memory"]),
        (
            {"registration": {"modez": 1, "modes": "many", "robust_mm": [3]},
             "quality": {"relief": 1}},
            ["did you mean modes?", 'modes: got "many"', "robust_mm.1", "quality.relief"],
        ),
        ({"registration": {"modes": -1}}, ["registration.modes: got -1, expected greater than or"]),
        ({"registration": {"method": "fould"}}, ['method: got "fould", expected fold or rigid']),
        (
            {"store": "scans/s.zarr", "work": "build.yaml/work"},
            ["store", "apart from sources.0.root", "build.yaml, which is a file"],
        ),
        ({"store": ".", "work": "."}, ["store: got", "sources.0.root", "outside of the store"]),
        ({"workers": 0, "model": "flame.pkl"}, ["workers", "flame.pkl"]),
        ({"store": "s3://"}, ["store: s3://: no URL of an object store"]),
        ({"store": "ftp://host/faces"}, ["no URL of an object store"]),
        ({"workers": True}, ["workers: got true, expected a whole number"]),
        ({"workers": "4"}, ['workers: got "4", expected a whole number']),
        ({"workers": 4.0}, ["workers: got 4.0, expected a whole number"]),
        ({"workers": 100_000}, ["workers: got 100000, expected", "less than or equal to 1024"]),
        ({"batch": 10**6, "rows_per_shard": 1 << 30}, ["batch", "rows_per_shard"]),
        ({"seed": "10", "scan_seconds": "300"}, ['seed: got "10"', 'scan_seconds: got "300"']),
        ({"scan_seconds": True, "keep_scans": 1}, ["scan_seconds: got true", "keep_scans: got 1"]),
        ({"scan_seconds": 10**7}, ["scan_seconds: got 10000000"]),
        (
            {"splits": {"train": True, "val": "0"}},
            ["splits.train: got true", 'splits.val: got "0"'],
        ),
        ({"work": 5, "model": True}, ["work: got 5, expected a path", "model: got true"]),
        ({"work": ""}, ['work: got "", expected a path']),
        ({"work": "x" * 300}, ["work: got"]),
        ({"work": "$NO_SUCH/w"}, ["work: got", "expected NO_SUCH to be set in the environment"]),
        ({"store": "${NO_SUCH}/w"}, ["store: got", "expected NO_SUCH to be set"]),
        ({"work": "~nobody_of_that_name/w"}, ["expected the ~ of a user that there is"]),
    ],
)  # fmt: skip
def test_all_faults_at_once(tmp_path: Path, fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RegistryError) as raised:
        load_build(written(tmp_path, **fields))
    for word in ["build.yaml", *words]:
        assert word in str(raised.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nowhere\.yaml: no such file; correct the path"):
        load_build(tmp_path / "nowhere.yaml")
    with pytest.raises(RegistryError, match=f"{tmp_path}: is no file; name a YAML file"):
        load_build(tmp_path)
    with pytest.raises(RegistryError, match=r"File name too long"):
        load_build(str(tmp_path / ("x" * 300)))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed: 010", "got 010, a number whose base depends on the reader"),
        ("scan_seconds: 5:00", "got 5:00, a number of base 60 in YAML 1.1 and text in 1.2"),
        ("scan_seconds: .inf", "got .inf, not a finite number"),
        ("scan_seconds: 1e3", "got 1e3, a number or text, depending on the reader"),
        ("keep_scans: off", "got off, true or false in YAML 1.1"),
        ("rows_per_shard: 4_096", "got 4_096, a number in YAML 1.1 and text in 1.2"),
        ("seed: 99999999999999999999", "a number of over 18 digits"),
        ("seed: 2024-01-01", 'got 2024-01-01, a date in YAML 1.1 and text in 1.2: quote it, "2024'),
        ("seed: !!int '4'", "got the tag tag:yaml.org,2002:int"),
        ('work: "a\\0b"', r"got the letter '\x00', expected text"),
    ],
)
def test_words_that_yaml_versions_read_differently(tmp_path: Path, line: str, told: str) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RegistryError) as raised:
        load_build(path)
    (fault,) = raised.value.faults
    assert fault.startswith(f"{path}: line 5: ") and told in fault
    key, value = line.split(": ", 1)
    with pytest.raises(RegistryError) as raised:
        load_build(written(tmp_path), [f"{key}={value}"])
    (fault,) = raised.value.faults
    assert fault.startswith(f"override {key}={value}: ") and told in fault


def test_words_of_one_meaning_are_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text() + "seed: -10\nscan_seconds: .5\nworker_memory_gb: 1.5e+0\n")
    config = load_build(path)
    assert (config.seed, config.scan_seconds, config.worker_memory_gb) == (-10, 0.5, 1.5)


def test_homes_and_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path / "mounted"))
    monkeypatch.setenv("BUCKET", "faces")
    (tmp_path / "mounted" / "$5").mkdir(parents=True)
    write_registry(tmp_path, "lab", licence=OPEN)
    entry = {"registry": "${HOME}/lab.yaml", "root": "$DATA/$$5"}
    path = written(tmp_path, sources=[entry], work="~/w", store="s3://${BUCKET}/unified")
    for config in (
        load_build(path),
        load_build(path, ["work=${HOME}/w", "sources.0.root=${DATA}/$$5"]),
    ):
        assert config.sources[0].root == tmp_path / "mounted" / "$5"
        assert config.sources[0].registry == str(tmp_path / "lab.yaml")
        assert (config.work, config.store) == (tmp_path / "w", "s3://faces/unified")
    (tmp_path / "~").mkdir()
    assert load_build(written(tmp_path, work="./~")).work == tmp_path / "~"


@pytest.mark.parametrize(
    "url",
    [
        *("s3://KEY:SECRET@bucket/x", "s3://KEY:SEC/RET@bucket/x", "s3://KEY:SECRET/x"),
        *("s3://KEY@bucket", "az://c/x?sig=SECRET", "abfss://c:SECRET@account/x"),
    ],
)
def test_no_key_in_a_url(tmp_path: Path, url: str) -> None:
    for call in (
        lambda: load_build(written(tmp_path, store=url)),
        lambda: load_build(written(tmp_path), [f"store={url}"]),
    ):
        with pytest.raises(RegistryError) as raised:
            call()
        told = str(raised.value)
        assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in told
        assert not re.search("KEY[:@]|SEC", told.replace("AWS_SECRET", "").replace("_KEY", ""))


def test_a_build_file_is_refused_without_torch(tmp_path: Path) -> None:
    path = written(tmp_path, workers=True)
    code = f"""
import sys
import pipeline.build.config
assert "torch" not in sys.modules, "by pipeline.build.config"
sys.argv = ["facefold", "build", {str(path)!r}]
from flows.terminal.command import main
try:
    main()
except SystemExit as end:
    assert end.code == 2
assert not {{"torch", "scipy", "prefect", "dask"}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"facefold: {path}: workers: got true, expected a whole number")


def test_the_stand_in_is_no_file(tmp_path: Path) -> None:
    assert load_build(written(tmp_path, model="stand-in")).model == Path("stand-in")


def test_a_root_has_to_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = written(tmp_path, sources=[{"registry": "synth_ply", "root": "file"}])
    with pytest.raises(RegistryError, match=r"sources\.0\.root: .*Not a directory.*mount the data"):
        load_build(path)


def test_options_are_checked_as_a_registry_merges_them(tmp_path: Path) -> None:
    write_registry(tmp_path, "lab", registration={"modes": -3})
    path = written(tmp_path, sources=[{"registry": "lab.yaml", "root": "scans"}])
    with pytest.raises(RegistryError) as raised:
        load_build(path)
    assert raised.value.faults == (
        f"{path}: sources.0.registry: {tmp_path / 'lab.yaml'}: registration.modes: got -3, "
        "expected greater than or equal to 0",
    )


def test_a_store_below_a_url_is_published_in_the_work_folder_first(tmp_path: Path) -> None:
    config = load_build(written(tmp_path, store="s3://faces/unified", work="w"))
    assert (config.store, config.store_url) == ("s3://faces/unified",) * 2
    assert config.store_folder == tmp_path / "w" / "store"


def test_what_may_not_be_passed_on_is_sent_only_with_a_note(tmp_path: Path) -> None:
    licence = {"name": "Lab agreement", "url": "x", "redistribution": False, "commercial": False}
    write_registry(tmp_path, "lab", licence=licence)
    entry = {"registry": "lab.yaml", "root": "scans"}
    told = r"sources\.0\.licence_note: got nothing, expected who may read .* lab \(Lab agreement"
    for note in ({}, {"licence_note": " "}):
        with pytest.raises(RegistryError, match=told):
            load_build(written(tmp_path, store="s3://b/p", sources=[entry | note]))
    load_build(written(tmp_path, sources=[entry]))
    note = {"licence_note": "agreement of 2024-02-01, signed by J. Doe; the lab reads the bucket"}
    config = load_build(written(tmp_path, store="s3://b/p", sources=[entry | note]))
    assert config.sources[0].licence_note == note["licence_note"]


def test_overrides_replace_fields(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    path = written(tmp_path, registration={"modes": 100, "robust_mm": [10, 4]}, workers=1)
    config = load_build(
        path,
        [
            *("workers=3", "workers=4", "sources.0.root=other", "splits.val=0.0"),
            *("splits.train=0.9", "registration.modes=80", "registration.robust_mm.1=3"),
            "sources.0.licence_note=agreement of 2024",
        ],
    )
    assert config.workers == 4
    assert config.sources[0].root == tmp_path / "other"
    assert config.sources[0].licence_note == "agreement of 2024"
    assert config.splits == {"train": 0.9, "val": 0.0, "test": 0.1}
    assert config.registration.model_dump() == {"modes": 80, "robust_mm": (10, 3)}
    assert load_build(path, ["splits={train: 1.0}"]).splits == {"train": 1.0}
    assert load_build(path).workers == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("workerz=4", "did you mean workers?"),
        ("workers", "expected KEY=VALUE"),
        ("workers=many", 'workers: got "many"'),
        ("workers.x=4", "no field x in 1"),
        ("sources.1.root=x", "no item 1 in a list of 1"),
        ("sources.first.root=x", "no item first"),
        ("sources.0.rot=x", "did you mean root?"),
        ("sources.0.root=gone", "expected the folder of the source"),
        ("splits={train: 1, train: 0}", "got train twice"),
        ("splits.train=0.7", "add up to 1"),
        ("registration.modez=80", "did you mean modes?"),
    ],
)
def test_wrong_overrides_are_told_with_all_other_faults(
    tmp_path: Path, override: str, told: str
) -> None:
    with pytest.raises(RegistryError) as raised:
        load_build(written(tmp_path, workers=1), [override])
    (fault,) = raised.value.faults
    assert fault.startswith(f"override {override}: ") and told in fault


def test_faults_of_fields_overrides_and_places_are_told_together(tmp_path: Path) -> None:
    path = written(tmp_path, batch=0, model="flame.pkl", splits={"train": 0.5})
    with pytest.raises(RegistryError) as raised:
        load_build(path, ["workerz=4", "seed=x", "sources.0.root=gone"])
    assert [fault.partition(": got")[0] for fault in raised.value.faults] == [
        raised.value.faults[0],
        "override seed=x: seed",
        f"{path}: batch",
        f"{path}: model",
        "override sources.0.root=gone: sources.0.root",
        f"{path}: splits",
    ]
    assert raised.value.faults[0].startswith("override workerz=4: no field workerz")
