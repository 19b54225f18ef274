"""Names that options list are those of the modules that give them a meaning."""

from __future__ import annotations

from typing import get_args

from flows.terminal.options import BenchmarkName, LayoutName, ProfileName, SystemName
from pipeline.evaluation.benchmarks import BENCHMARKS
from pipeline.store.exporting import LAYOUTS
from pipeline.store.form import PROFILES
from pipeline.training.systems import SYSTEMS


def test_options_list_all_names() -> None:
    assert get_args(LayoutName) == (*LAYOUTS,)
    assert get_args(ProfileName) == (*PROFILES,)
    assert get_args(BenchmarkName) == (*BENCHMARKS,)
    assert get_args(SystemName) == (*SYSTEMS,)
