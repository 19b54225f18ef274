"""The build file: which sources are folded into which store, with which model and options."""

from pipeline.build.config.load import load_build
from pipeline.build.config.model import BuildConfig, SourceEntry

__all__ = ["BuildConfig", "SourceEntry", "load_build"]
