"""Every reader against damaged and hostile files: what it does, how long, how much memory.

    python tests/benchmarks/fuzz.py [--quick] [--json] [--inputs N] [--only NAME …]

The inputs are those of tests/formats/mutations.py, the same for the same seed. A reader may refuse
(FormatError; RegistryError for a registry) or accept; anything else is a failure: another
exception, a crash, no end after 20 s, 200 MB of address space above the file, or a file opened
outside of the scan's folder. Each reader runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "formats"))
from mutations import Outcome, Target, outcome, prepare, targets


@dataclass
class Tally:
    reader: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    failed: int = 0
    worst_s: float = 0.0
    worst_seed: int = -1
    peak_mb: float = 0.0
    peak_seed: int = -1
    failures: dict[str, list[int]] = field(default_factory=dict)
    """What happened, and the seeds that show it."""

    def add(self, seed: int, found: Outcome) -> None:
        self.inputs += 1
        setattr(self, found.kind, getattr(self, found.kind) + 1)
        if found.detail:
            self.failures.setdefault(found.detail, []).append(seed)
        if found.seconds > self.worst_s:
            self.worst_s, self.worst_seed = found.seconds, seed
        if found.peak_bytes / 1e6 > self.peak_mb:
            self.peak_mb, self.peak_seed = found.peak_bytes / 1e6, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 inputs a reader")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--inputs", type=int, default=20_000, help="a reader")
    parser.add_argument("--only", nargs="*", help="names of readers, as the table gives them")
    arguments = parser.parse_args()
    n = 200 if arguments.quick else arguments.inputs
    known = targets()
    chosen = [t for t in known if arguments.only is None or t.name in arguments.only]
    if not chosen:
        parser.error(f"--only takes names of {', '.join(t.name for t in known)}")
    tallies = []
    if not arguments.json:
        print(line("reader", "inputs", "refused", "accepted", "failed", "worst cpu s", "peak MB"))
    for target in chosen:
        tally = Tally(target.name)
        for seed, found in outcomes(target, int(n * target.share)):
            tally.add(seed, found)
        tallies.append(tally)
        if not arguments.json:
            print_tally(tally)
    if arguments.json:
        print(json.dumps([vars(tally) for tally in tallies]))
    sys.exit(any(tally.failed for tally in tallies))


def print_tally(tally: Tally) -> None:
    counts = (tally.inputs, tally.refused, tally.accepted, tally.failed)
    print(line(tally.reader, *counts, f"{tally.worst_s:.2f}", f"{tally.peak_mb:.0f}"), flush=True)
    for failure, seeds in tally.failures.items():
        print(f"    {len(seeds)} × {failure} (seeds {seeds[:3]})", flush=True)


def line(name: str, *cells: Any) -> str:
    return f"{name:18}" + "".join(f"{cell:>12}" for cell in cells)


def outcomes(target: Target, n: int) -> Iterator[tuple[int, Outcome]]:
    """(seed, outcome) of each input; a process that dies is one failure, and another goes on."""
    context = multiprocessing.get_context("fork")
    seed = 0
    read_whole(target)
    while seed < n:
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(target, range(seed, n), sender))
        worker.start()
        sender.close()
        try:
            while True:
                seed, found = receiver.recv()
                yield seed, found
                seed += 1
        except EOFError:
            worker.join()
        if worker.exitcode:
            yield seed, Outcome("failed", f"the process died with {worker.exitcode}")
            seed += 1


def work(target: Target, seeds: range, sender: Connection) -> None:
    with tempfile.TemporaryDirectory(prefix="facefold-fuzz-") as root:
        folder = prepare(Path(root))
        for seed in seeds:
            sender.send((seed, outcome(target, folder, seed)))


def read_whole(target: Target) -> None:
    """The reader must read a whole file; what it imports for that is not an input's doing."""
    with tempfile.TemporaryDirectory(prefix="facefold-fuzz-") as folder:
        for whole in target.wholes:
            for name, content in {**target.beside, target.file_name: whole}.items():
                (Path(folder) / name).write_bytes(content)
            target.read(Path(folder) / target.file_name)


if __name__ == "__main__":
    main()
