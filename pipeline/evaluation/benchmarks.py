"""The benchmarks by name: to add one, write its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.protocols.aflw2000 import AFLW2000
from pipeline.evaluation.protocols.facewarehouse import FACEWAREHOUSE
from pipeline.evaluation.protocols.fg2018 import FG2018
from pipeline.evaluation.protocols.held_out import STORE
from pipeline.evaluation.protocols.micc import MICC
from pipeline.evaluation.protocols.modular import MODULAR
from pipeline.evaluation.protocols.now import NOW
from pipeline.evaluation.protocols.people import PEOPLE
from pipeline.evaluation.protocols.realy import REALY

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
        "people": PEOPLE,
    }
)
