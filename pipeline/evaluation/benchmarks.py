"""The benchmarks by name: to add one, write its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.facewarehouse import FACEWAREHOUSE
from pipeline.evaluation.fg2018 import FG2018
from pipeline.evaluation.held_out import STORE
from pipeline.evaluation.micc import MICC
from pipeline.evaluation.modular import MODULAR
from pipeline.evaluation.now import NOW

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "now": NOW,
        "fg2018": FG2018,
        "micc": MICC,
        "facewarehouse": FACEWAREHOUSE,
        "modular": MODULAR,
        "store": STORE,
    }
)
