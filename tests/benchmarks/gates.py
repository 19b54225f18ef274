"""Do the gates tell good registrations from spoiled ones? Precision and recall of gate and kind.

python tests/benchmarks/gates.py [--quick] [--json] [--tune] [--seeds FIRST] [--sound N] [--each N]
    [--families NAMES] [--cache DIR] [--shared-data DIR]
Sound faces of several families are registered, and spoiled: their files (unit, axes, hair, motion,
landmarks …) before registration, or its result, moved along the surface. A result is good where no
part is more than 2.5 mm from its truth, bad where a corner, the chin or a whole ear is more than
4 mm from it; a family's constant bias, its definition of the topology, is taken out. `--tune`
prints `pipeline/quality/usual.py`; to be done on other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from gate_cases import FAMILIES
from gate_rows import KINDS, Row, Store
from gate_slides import SLIDES
from gate_tables import biases, print_tables, tables
from gate_tuning import tuned, written
from open_models import add_shared_data

from pipeline.quality.thresholds import Gates

SEEDS, TUNING_SEEDS = 2_000_000, 5_000_000
SOUND: Mapping[str, int] = {
    "ict": 500,
    "second": 500,
    "stand-in": 100,
    "ict, bare": 200,
    "second, bare": 200,
    "ict, stand-in": 50,
    "second, stand-in": 50,
    "real": 8,
    "real, stand-in": 8,
}
QUICK: Mapping[str, int] = {"ict": 6, "second": 3, "real": 2}
SPOILED = ("ict", "second")
"""Families whose files are spoiled."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    first = arguments.seeds or (TUNING_SEEDS if arguments.tune else SEEDS)
    store = Store(arguments.shared_data, arguments.cache)
    wanted = QUICK if arguments.quick else SOUND
    chosen = arguments.families.split(",") if arguments.families else list(wanted)
    if unknown := sorted(set(chosen) - FAMILIES.keys()):
        sys.exit(f"unknown: {', '.join(unknown)}; known are {', '.join(FAMILIES)}")
    each = 1 if arguments.quick else arguments.each
    counts = {f: arguments.sound or wanted.get(f, 10) for f in chosen}
    rows = [store.sound_row(f, first + i) for f, n in counts.items() for i in range(n)]
    rows += spoiled(store, chosen, first, each)
    bias = biases(rows)
    if arguments.tune:
        print(written(*tuned(rows, bias)))
    result = tables(rows, bias, Gates())
    print(json.dumps(result)) if arguments.json else print_tables(result)


def spoiled(store: Store, families: list[str], first: int, each: int) -> list[Row]:
    """So many rows of each kind; results that slid are of every family."""
    of_files = [f for f in families if f in SPOILED]
    known = [f for f in families if not f.startswith("real")]
    rows = []
    for kind in KINDS:
        own = known if kind in SLIDES else of_files
        rows += store.spoiled(own, kind, first, each) if own else []
    return rows


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few faces, one of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tune", action="store_true", help="print thresholds that fit")
    parser.add_argument("--seeds", type=int, help="the first one, then counted up")
    parser.add_argument("--sound", type=int, help="sound faces of each family")
    parser.add_argument("--each", type=int, default=100, help="spoiled ones of each kind")
    parser.add_argument("--families", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--cache", type=Path, help="where registrations are kept",
                        default=Path(tempfile.gettempdir()) / "facefold_gates")  # fmt: skip
    add_shared_data(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
