"""`facefold evaluate` as tests call it: in this process, with the object that `--json` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from flows.terminal.command import app


def evaluate(
    benchmark: str, root: Path, predictions: Path, out: Path, *options: str
) -> dict[str, Any]:
    """What the command prints with `--json`, and its exit status as "status" (0, or 3 if some
    predictions are missing or could not be scored).

    Raises FacefoldError where the command would say so and end with status 2.
    """
    given = ("--root", root, "--predictions", predictions, "--out", out)
    words = [str(word) for word in ("evaluate", benchmark, *given, *options, "--json")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code in (0, 3), result.output
    return {**json.loads(result.stdout), "status": result.exit_code, "said": result.stderr}


def row(
    found: dict[str, Any],
    mode: str,
    variant: str,
    *,
    part: str = "",
    group: str = "",
    of: str = "predictions",
) -> dict[str, Any]:
    """The one line of the table with these names: its figures by column, such as "median_mm"."""
    wanted = {"mode": mode, "variant": variant, "part": part, "group": group, "of": of}
    line: dict[str, Any]
    (line,) = [line for line in found["table"] if wanted.items() <= line.items()]
    return line


def kinds(found: dict[str, Any], case: str | None = None) -> set[str]:
    """Kinds of the findings, of all or of one case."""
    return {f["kind"] for f in found["findings"] if case is None or f["case"] == case}
