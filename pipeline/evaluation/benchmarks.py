"""The benchmarks by name: to add one, write its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.evaluation.aflw2000 import AFLW2000
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.facewarehouse import FACEWAREHOUSE
from pipeline.evaluation.fg2018 import FG2018
from pipeline.evaluation.held_out import STORE
from pipeline.evaluation.micc import MICC
from pipeline.evaluation.modular import MODULAR
from pipeline.evaluation.now import NOW
from pipeline.evaluation.realy import REALY

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "now": NOW,
        "fg2018": FG2018,
        "realy": REALY,
        "micc": MICC,
        "facewarehouse": FACEWAREHOUSE,
        "aflw2000": AFLW2000,
        "modular": MODULAR,
        "store": STORE,
    }
)
