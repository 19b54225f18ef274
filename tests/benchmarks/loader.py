"""The store and its loaders against other ways to keep and read the same scans, in one run.

    python tests/benchmarks/loader.py [--quick] [--json] [--scans N] [--parts warm,cold,…]

A store of random numbers is built in the temporary folder (TMPDIR; 0.8 MB a scan with every
format, 17 GB at 20,000), and six fields of it, 62,576 bytes a scan, are read in batches of 64.
Contestants take turns of 50 ms in random order, all from a warm page cache, which has to hold the
files. Absolute rates depend on the machine; what counts are the ratios to np.memmap's turn of the
same round. All figures are medians. A format that is not installed is left out and told; the
others are made to give the same bytes before they are timed. `pip install -e .[benchmark]`
installs them all.

| part | what is measured |
|---|---|
| warm | batches of random rows: the store, `FaceDataset` and the other formats |
| identities | batches of 16 people × 4 scans through `FaceLoader`, against np.memmap, same rows |
| full | shuffled epochs through `FaceLoader`, a thread ahead, against `np.take` of memmaps |
| cold | an epoch from files out of the page cache: `BlockShuffled` against np.memmap in order |
| write | `create_staging`, `write_shard`, `publish` of one shard against writing plain files |
| open | from the path to the first batch, of this store and of one of a million rows |
| images | 64 images a batch, one a sample and two of a scan, against np.memmap |
| points | 8,192 points and normals a scan, against one npz a scan |
| memory | anonymous memory of a process that runs an epoch |
| epochs | the first batch of ten million samples, from the start and resumed |
| ranks | what two and four gloo processes show, against one |
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from loader_costs import long_epochs, memory, opening, ranks, writing
from loader_figures import Figure
from loader_rates import cold, full, identities, points, warm_shuffled
from loader_stores import Setting
from loader_views import images

PARTS: dict[str, Callable[[Setting], list[Figure]]] = {
    "write": writing,  # first, while nothing else is in the page cache
    "warm": warm_shuffled,
    "identities": identities,
    "full": full,
    "cold": cold,
    "open": opening,
    "images": images,
    "points": points,
    "memory": memory,
    "epochs": long_epochs,
    "ranks": ranks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="512 scans, 3 rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--scans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts.split(",")) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    scans, rounds = (512, 3) if arguments.quick else (arguments.scans, arguments.rounds)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="facefold-loader-") as folder:
        setting = Setting(Path(folder), scans, rounds)
        for part in arguments.parts.split(","):
            found = PARTS[part](setting)
            figures += found
            if not arguments.json:
                print(*(figure.line() for figure in found), sep="\n", flush=True)
    if arguments.json:
        print(json.dumps([figure.as_json() for figure in figures], indent=1))
    missed = [figure.what for figure in figures if figure.met is False]
    print(
        f"{len(missed)} targets missed" + ": " * bool(missed) + ", ".join(missed), file=sys.stderr
    )


if __name__ == "__main__":
    main()
