"""How long a source's tree takes to catalogue: names and sizes, first hashes, and hashes again.

    python tests/benchmarks/catalogue.py [--quick] [--json] [--files N]

The tree is laid out as datasets are: a folder a subject, in each 25 scans with a landmark file, a
material and a photo, small files all. The floor beside it is os.scandir and a stat of every file,
in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.catalogue import catalogue
from pipeline.registry import load_registry

EXPRESSIONS = 25
SUFFIXES = (".obj", ".bnd", ".mtl", ".jpg")
REGISTRY = {
    "id": "tree",
    "title": "A tree of files",
    "version": "1",
    "verified": True,
    "licence": {"name": "none", "url": "none", "redistribution": True, "commercial": True},
    "citation": "none",
    "access": "none",
    "metric": True,
    "scans": {
        "include": ["subjects/*/*.obj"],
        "name": r"subjects/(?P<subject>(?P<sex>[FM])\d{5})/(?P=subject)_(?P<expression>E\d\d)\.obj",
        "exclude": [
            {"pattern": "torn/**", "reason": "torn meshes"},
            {"pattern": "**/*_test.obj", "reason": "trial shots"},
        ],
        "companions": ["subjects/**/*.mtl"],
    },
    "format": "obj",
    "unit": "mm",
    "axes": "unknown",
    "landmarks": {"file": "{dir}/{stem}.bnd", "format": "bnd", "scheme": "bu83"},
    "images": ["{dir}/{stem}*.jpg"],
    "subjects": {"metadata": {"sex": {"F": "female", "M": "male"}}},
    "neutral": ["E00"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5,000 files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="facefold-catalogue-") as folder:
        result = run(Path(folder), 5_000 if arguments.quick else arguments.files)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['files']} files, {result['scans']} scans")
    for name, seconds in result["seconds"].items():
        print(f"{name:28} {seconds:8.2f} s")


def run(folder: Path, n_files: int) -> dict[str, Any]:
    root, cache = folder / "root", folder / "hashes.sqlite"
    written = write_tree(root, n_files)
    file = folder / "tree.yaml"
    file.write_text(yaml.safe_dump(REGISTRY))
    registry = load_registry(file)
    found = catalogue(registry, root, hashes=False)
    scans = written // len(SUFFIXES)
    if (found.n_files, len(found.records), len(found.quarantined)) != (written, scans, 0):
        raise SystemExit(f"{written} files written, {found.n_files} found: the figures are void")
    return {
        "files": written,
        "scans": scans,
        "seconds": {
            "os.scandir and stat": seconds(lambda: listing(str(root))),
            "names and sizes": seconds(lambda: catalogue(registry, root, hashes=False)),
            "hashes, first time": seconds(lambda: catalogue(registry, root, hash_cache=cache)),
            "hashes, nothing changed": seconds(lambda: catalogue(registry, root, hash_cache=cache)),
        },
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def listing(root: str) -> list[tuple[str, int]]:
    """The least that any catalogue does."""
    found, folders = [], [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found.append((entry.path, entry.stat().st_size))
    return found


def write_tree(root: Path, n_files: int) -> int:
    """About `n_files` files; returns how many."""
    subjects = max(1, n_files // (EXPRESSIONS * len(SUFFIXES)))
    for subject in range(subjects):
        name = f"{'FM'[subject % 2]}{subject:05}"
        folder = root / "subjects" / name
        folder.mkdir(parents=True)
        for expression in range(EXPRESSIONS):
            for suffix in SUFFIXES:
                path = f"{folder}/{name}_E{expression:02}{suffix}"
                with open(path, "wb") as out:  # noqa: PTH123 - a hundred thousand times
                    out.write(path.encode())
    return subjects * EXPRESSIONS * len(SUFFIXES)


if __name__ == "__main__":
    main()
