"""A scan that kills its worker, or that raises what nobody foresaw, harms only itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tests.flows.conftest import Demo

# the real flow, cluster and ledger; only a scan's processing is replaced by something that fails
SCRIPT = """
import json, sys
from pathlib import Path
from flows.local_prefect import use_local_prefect
use_local_prefect(Path(sys.argv[1]).parent / "prefect")
import flows.build as flow
from pipeline.config import load_build
from pipeline.ledger import Result

def poisoned(works, *rest):
    import os
    names = [work.record.scan_id for work in works]
    if "synth_studio:scans/f1001_n" in names:
        os._exit(1)
    if "synth_studio:scans/m1002_n" in names:
        raise ValueError("an odd scan")
    return [Result(work.key, work.record.scan_id, "register", "fine") for work in works]

if __name__ == "__main__":
    flow.process_batch = poisoned
    flow.check_limits = lambda plan, assembly: None
    print(json.dumps(flow.build(load_build(Path(sys.argv[1])))))
"""


def test_neighbours_of_poison_scans_survive_and_the_next_build_tries_again(
    demo: Demo, tmp_path: Path
) -> None:
    root = demo.folder / "sources" / "synth_studio"
    config = {"store": "s.zarr", "sources": [{"registry": "synth_studio", "root": str(root)}]}
    path = tmp_path / "build.yaml"
    path.write_text(yaml.safe_dump(config))
    script = tmp_path / "poisoned.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(path)]
    first, second = (
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=400).stdout)
        for _ in range(2)
    )
    stages = {row["scan_id"]: (row["stage"], row["reason"]) for row in first["quarantine"]}
    assert stages["synth_studio:scans/f1001_n"][0] == "worker"
    assert "KilledWorker" in stages["synth_studio:scans/f1001_n"][1]
    assert stages["synth_studio:scans/m1002_n"] == ("worker", "ValueError: an odd scan")
    others = [stage for stage, _ in stages.values() if stage not in ("worker", "catalogue")]
    assert others == ["register"] * (first["recomputed"] - 2)
    assert second["recomputed"] == 2
