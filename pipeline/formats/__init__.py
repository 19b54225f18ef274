"""Scan files: one reader a format (`readers`), all with one contract (`contract`).

To add a format, write `<format>.py` beside the others and a line of READERS in `readers.py`.
"""

from pipeline.formats.readers import (
    READERS,
    WITH_PIXELS,
    format_of,
    option_faults,
    read_scan,
    reader_options,
)

__all__ = [
    "READERS",
    "WITH_PIXELS",
    "format_of",
    "option_faults",
    "read_scan",
    "reader_options",
]
