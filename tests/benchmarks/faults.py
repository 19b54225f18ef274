"""Random faults of a store: what readers see, whether damage is told, whether a retry completes.

    python tests/benchmarks/faults.py [--quick] [--json] [--faults N] [--seed S] [--only NAME …]

Each fault is drawn by its number and works on a store of its own; `tests/store/faults.py` says what
each kind does. A fault passes where readers saw the old version or the new one and never a mixture
(all rows of all fields are compared), where every damage was told, where nothing that was
published is lost, and where a retry ended in a sound store of the new rows without leftovers.
Those of S3 run against an S3-compatible server on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.s3_server import make_bucket, s3_server, surroundings
from tests.store.faults import FAULTS, OWN_DISK, Outcome, own_disks_possible, strike


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fault of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(FAULTS))
    arguments = parser.parse_args()
    names = arguments.only or list(FAULTS)
    if not own_disks_possible():
        print("left out, for this user may not mount (unshare -rm):", *OWN_DISK, file=sys.stderr)
        names = [name for name in names if name not in OWN_DISK]
    draw = random.Random(arguments.seed)
    drawn = names if arguments.quick else [draw.choice(names) for _ in range(arguments.faults)]
    with tempfile.TemporaryDirectory() as folder, s3_server() as endpoint:
        os.environ |= surroundings(endpoint)
        make_bucket(endpoint, "faults")
        result = run(Path(folder), drawn, arguments.seed)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
    sys.exit(0 if not result["failed"] else 1)


def run(folder: Path, drawn: list[str], seed: int) -> dict[str, Any]:
    kinds: dict[str, Counter[str]] = {name: Counter() for name in drawn}
    failed, start = [], time.monotonic()
    for number, name in enumerate(drawn):
        try:
            outcome = strike(name, folder / str(number), hash_of(seed, number))
        except Exception as error:  # whatever it is, it is a failure of this fault
            outcome = Outcome(frozenset(), False, False)
            print(f"{number} {name}: {type(error).__name__}: {error}", file=sys.stderr)
        kinds[name] += Counter(
            {
                "faults": 1,
                "old version seen": 0 in outcome.seen,
                "new version seen": bool(outcome.seen - {0}),
                "told": outcome.detected,
                "mended": outcome.mended,
            }
        )
        if not outcome.fine:
            failed.append({"number": number, "fault": name, "outcome": str(outcome)})
        print(f"\r{number + 1} of {len(drawn)} faults", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {
        "faults": len(drawn),
        "failed": failed,
        "kinds": {name: dict(counts) for name, counts in kinds.items()},
        "seconds": round(time.monotonic() - start),
    }


def hash_of(seed: int, number: int) -> int:
    return random.Random(f"{seed} {number}").randrange(2**31)


def show(result: dict[str, Any]) -> None:
    columns = ("faults", "old version seen", "new version seen", "told", "mended")
    print(f"{'fault':26}", *(f"{column:>17}" for column in columns))
    for name in FAULTS:
        if counts := result["kinds"].get(name):
            print(f"{name:26}", *(f"{counts.get(column, 0):17}" for column in columns))
    n = result["faults"]
    print(f"{n - len(result['failed'])} of {n} passed, {result['seconds']} s")
    for failure in result["failed"]:
        print(f"failed: {failure}")


if __name__ == "__main__":
    main()
