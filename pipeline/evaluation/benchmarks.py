"""The benchmarks by name: to add one, write its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.modular import MODULAR

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "modular": MODULAR,
    }
)
