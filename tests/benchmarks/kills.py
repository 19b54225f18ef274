"""Builds killed at random moments: what the next start makes of them.

    python tests/benchmarks/kills.py [--quick] [--json] [--kills N] [--seed S] [--only KIND …]

Each kill strikes a build of its own, of the same sources (simulated scans whose registration is a
sleep, broken files, a scan that ends its worker): kill −9 of the flow, of a worker or of the Dask
scheduler, with local workers or with a scheduler and workers started by hand. The moment is uniform
from the first line that a build says to its end. Then the build ends, or is started again until it
does. It passes where the published store is that of an undisturbed build in every byte but those of
`run.json`, no process is left, and the work repeated is at most a batch a worker.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.flows.kills import BATCH, Build, HandCluster, Site, hand_cluster, kill, published

KINDS = ("flow", "worker", "scheduler", "flow by hand", "worker by hand")
"""What is killed; "by hand": of a build on a cluster that was started so, as a scheduler has to
be."""
WORKERS = 2


@dataclass
class Outcome:
    kind: str
    moment: float
    """0 the first line, 1 the end of an undisturbed build."""
    phase: str
    status: int
    """Of the build that was struck."""
    ended_s: float
    """From the kill to its end."""
    identical: bool
    registered_again: int
    judged_again: int
    left: int
    """Processes that are alive still when the next build has ended."""

    @property
    def fine(self) -> bool:
        repeated = max(self.registered_again, self.judged_again)
        return self.identical and not self.left and repeated <= BATCH * WORKERS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one kill of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    kills = len(arguments.only) if arguments.quick else arguments.kills
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), arguments.scans, sleep_s=0.03)
        try:
            result = run(site, arguments.only, kills, random.Random(arguments.seed))
        finally:
            site.end()
    print(json.dumps(result)) if arguments.json else show(result)
    sys.exit(0 if not result["failed"] else 1)


def run(site: Site, kinds: tuple[str, ...], kills: int, draw: random.Random) -> dict[str, Any]:
    undisturbed = site.build("undisturbed")
    undisturbed.wait_for_start()
    start = time.monotonic()
    if undisturbed.end():
        raise SystemExit(undisturbed.said)
    seconds = time.monotonic() - start
    reference = published(site.folder / "undisturbed/unified.zarr")
    site.repeated()
    outcomes: list[Outcome] = []
    while len(outcomes) < kills:
        kind, moment = kinds[len(outcomes) % len(kinds)], draw.random()
        name = f"{len(outcomes)} {time.monotonic():.0f}"
        outcome = strike(site, kind, name, moment, seconds, draw)
        if outcome is None:  # it was faster than the undisturbed one, and had ended
            site.repeated()
            continue
        again = site.repeated()
        outcome.registered_again, outcome.judged_again = again["register"], again["judge"]
        outcome.identical = published(site.folder / name / "unified.zarr") == reference
        outcomes.append(outcome)
        print(f"{len(outcomes)} of {kills}: {outcome}", file=sys.stderr, flush=True)
    return {
        "kills": kills,
        "undisturbed_s": round(seconds, 1),
        "failed": [asdict(outcome) for outcome in outcomes if not outcome.fine],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def strike(
    site: Site, kind: str, name: str, moment: float, seconds: float, draw: random.Random
) -> Outcome | None:
    """One kill and the builds after it; None where the build had ended by then."""
    if kind in ("flow", "worker"):
        return strike_build(site, kind, name, moment, seconds, draw, None)
    with hand_cluster(site, WORKERS) as cluster:
        return strike_build(site, kind, name, moment, seconds, draw, cluster)


def strike_build(
    site: Site,
    kind: str,
    name: str,
    moment: float,
    seconds: float,
    draw: random.Random,
    cluster: HandCluster | None,
) -> Outcome | None:
    build = site.build(name, *(("--dask", cluster.address) if cluster else ()))
    build.wait_for_start()
    time.sleep(moment * seconds)
    phase, victim = build.phase, victim_of(kind, build, cluster, draw)
    if victim is None or build.process.poll() is not None:
        build.end()
        return None
    kill(victim)
    struck = time.monotonic()
    status = build.end()
    outcome = Outcome(kind, round(moment, 3), phase, status, 0.0, False, 0, 0, 0)
    outcome.ended_s = round(time.monotonic() - struck, 1)
    if status not in (0, 2, -signal.SIGKILL):
        print(build.said, file=sys.stderr)
    if kind == "scheduler":
        assert cluster is not None
        cluster.end()
        cluster.start()
    if status:
        again = site.build(name, *(("--dask", cluster.address) if cluster else ()))
        if again.end():
            print(again.said, file=sys.stderr)
    if cluster is not None:
        cluster.end()
    outcome.left = len(site.left_after(10))
    return outcome


def victim_of(kind: str, build: Build, cluster: HandCluster | None, draw: random.Random) -> Any:
    if kind.startswith("flow"):
        return build.process
    if kind == "scheduler":
        assert cluster is not None
        return cluster.scheduler
    workers = build.workers() if cluster is None else cluster.workers()
    return draw.choice(workers) if workers else None


def show(result: dict[str, Any]) -> None:
    columns = ("moment", "phase", "status", "ended_s", "identical")
    columns += ("registered_again", "judged_again", "left")
    print(f"{'killed':15}", *(f"{column:>19}" for column in columns))
    for outcome in sorted(result["outcomes"], key=lambda one: (one["kind"], one["moment"])):
        print(f"{outcome['kind']:15}", *(f"{outcome[column]!s:>19}" for column in columns))
    n, failed = result["kills"], len(result["failed"])
    print(f"{n - failed} of {n} passed; undisturbed: {result['undisturbed_s']} s")


if __name__ == "__main__":
    main()
