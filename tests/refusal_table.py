"""`docs/reference/refusals.md`, made from the enumeration of codes."""

from __future__ import annotations

from pipeline.refusals import Code

HEAD = """\
# Why scans are refused

Every scan that a build refuses, and every reason to review one, has a code. The same codes stand
in `quarantine.parquet` (`stage`, `code`, `reason`, `figures`), in the manifest (`reason_codes`), in
the JSON of `facefold register`, in the live view and in the run's report. The reason says the
measured value, what was expected, and the remedy; `figures` holds the values as JSON. Made from the
code by `make schema`.

| code | what it means | what to do |
|---|---|---|
"""


def refusals_markdown() -> str:
    """The whole page."""
    return HEAD + "".join(f"| `{code}` | {code.meaning} | {code.remedy} |\n" for code in Code)
