"""Do the systems learn what they claim? Trained from scratch on made people, scored on others.

    python tests/benchmarks/training.py            # three seeds, about 40 minutes on two cores
    python tests/benchmarks/training.py --quick    # few people and steps, about 3: does it run?

Each part prints its table; curves and example pictures go below --out. `--only mica,prdl` runs
some.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import training_mica
import training_pgn
import training_prdl
import training_psl
from loader_figures import Figure
from training_people import People, write_people

Proof = Callable[[Path, tuple[int, ...], bool, Path], list[Figure]]
"""Store, seeds, quick, folder for what it writes -> its figures."""
PROOFS: dict[str, Proof] = {
    "mica": training_mica.proof,
    "prdl": training_prdl.proof,
    "pgn": training_pgn.proof,
    "psl": training_psl.proof,
}
SEEDS = (11, 12, 13)
PEOPLE = People(train=2000, seed=7)
QUICK = People(train=60, val=6, test=12, seed=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few people, one seed")
    parser.add_argument("--json", action="store_true", help="one JSON object to stdout")
    parser.add_argument("--only", default=",".join(PROOFS), help="parts, joined by commas")
    parser.add_argument("--out", type=Path, help="where stores, curves and pictures go")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="training-"))
    people, seeds = (QUICK, SEEDS[:1]) if given.quick else (PEOPLE, SEEDS)
    store = write_people(folder, people)
    figures, seconds = [], {}
    for name in given.only.split(","):
        began = time.perf_counter()
        found = PROOFS[name](store, seeds, given.quick, folder / name)
        if given.quick:
            found = [replace(figure, target=None) for figure in found]
        seconds[name] = round(time.perf_counter() - began, 1)
        figures += found
        if not given.json:
            print(*(figure.line() for figure in found), sep="\n", flush=True)
            print(f"{name}: {seconds[name]} s", flush=True)
    if given.json:
        found_here = [figure.as_json() for figure in figures]
        print(json.dumps({"figures": found_here, "seconds": seconds}))


if __name__ == "__main__":
    main()
