"""Do the systems learn what they claim? Trained from scratch on made people, scored on others.

    python tests/benchmarks/training.py            # three seeds, about 45 minutes on two cores
    python tests/benchmarks/training.py --quick    # few people and steps, about 3: does it run?

Trainings run two at a time, of one thread each: small networks keep a second one waiting. Each part
prints its table; curves and example pictures go below --out. `--only mica,prdl` runs some.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
import training_mica
import training_pgn
import training_prdl
import training_psl
from training_people import People, write_people

PROOFS = {
    "psl": training_psl,
    "mica": training_mica,
    "pgn": training_pgn,
    "prdl": training_prdl,  # the last: it times something when all trainings are over
}
"""Each has `runs(store, seeds, quick, folder)`, and `figures(found, store, quick)` of what they
find."""
AT_ONCE = 2
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
    chosen = given.only.split(",")
    began, figures = time.perf_counter(), []
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, fresh, torch.set_num_threads, (1,)) as pool:
        started = {
            name: [
                pool.submit(run.call, *run.given)
                for run in PROOFS[name].runs(store, seeds, given.quick, folder / name)
            ]
            for name in chosen
        }
        for name in chosen:
            found = [run.result() for run in started[name]]
            own = PROOFS[name].figures(found, store, given.quick)
            figures += [replace(figure, target=None) for figure in own] if given.quick else own
            if not given.json:
                print(*(figure.line() for figure in figures[-len(own) :]), sep="\n", flush=True)
    seconds = round(time.perf_counter() - began, 1)
    if given.json:
        print(json.dumps({"figures": [f.as_json() for f in figures], "seconds": seconds}))
    else:
        print(f"{seconds} s")


if __name__ == "__main__":
    main()
