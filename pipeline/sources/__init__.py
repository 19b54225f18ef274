"""Getting to know a source: a first registry from its folder, and a look at its scans."""

from pipeline.sources.check import check_folder
from pipeline.sources.draft import draft_source

__all__ = ["check_folder", "draft_source"]
