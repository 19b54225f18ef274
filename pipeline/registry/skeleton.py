"""The text of a new source file: what is known of a folder, and FILL for what only people know."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import RegistryError
from pipeline.text import printable

FILL = "FILL"
ID = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Draft:
    """What a source file says of a folder; the defaults show the form and stand for nothing.

    Values are as the registry has them, FILL where one is open; `notes` go as comments to the
    fields that they are named after, those of "" to the top of the file.
    """

    include: Sequence[str] = ("**/*.obj",)
    name: str = r"(?P<subject>[^/]+)/(?P<expression>[^/]+)\.obj"
    exclude: Sequence[Mapping[str, str]] = ()
    companions: Sequence[str] = ("**/*.mtl", "**/*.jpg", "**/*.png")
    examples: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: {"anna/neutral.obj": {"subject": "anna", "expression": "neutral"}}
    )
    metric: Any = True
    format: str = "obj"
    reader: str = ""
    """FILL where the format's reader must be told something."""
    unit: str = FILL
    axes: Any = field(default_factory=lambda: {"up": "+y", "forward": "+z"})
    landmarks: Mapping[str, Any] | None = None
    images: Sequence[str] = ()
    neutral: Any = ("neutral",)
    case: str = "keep"
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def new_registry(id: str, draft: Draft | None = None) -> str:
    """A commented source file that loads once every FILL is replaced; RegistryError: a bad id."""
    if not ID.fullmatch(id):
        raise RegistryError(
            [f"{id}.yaml: id: got {id!r}, expected small letters, digits and _, a letter first"]
        )
    return "".join(_lines(id, draft or Draft()))


def _lines(id: str, draft: Draft) -> list[str]:
    return [
        "# yaml-language-server: $schema=schema.json\n",
        "# Replace every FILL and check the rest; ",
        f"`facefold sources check {id}.yaml --root FOLDER` helps.\n",
        _noted(draft, ""),
        f"id: {id}\n",
        'title: FILL\nversion: "FILL"\n',
        "verified: false # true once every fact below was checked on the data\n",
        "unconfirmed: [all of it]\n\n",
        "licence:\n  name: FILL\n  url: FILL\n  redistribution: false\n  commercial: false\n",
        "citation: FILL\naccess: FILL # how to get the data\n\n",
        _noted(draft, "metric"),
        f"metric: {flow(draft.metric)} # false: rescaled; recoverable: by `scale`\n\n",
        *_scans(draft),
        "\n",
        *_contents(draft),
        *_people(draft),
    ]


def _noted(draft: Draft, name: str, indent: str = "") -> str:
    return "".join(f"{indent}# {printable(note)}\n" for note in draft.notes.get(name, ()))


def _scans(draft: Draft) -> list[str]:
    """Which files are scans, and what their names tell."""
    return [
        "scans:\n",
        f"  include: {flow(draft.include)} # globs relative to the root\n",
        "  # The whole relative path. Groups: subject, session, expression, frame, or any\n",
        "  # that is used below.\n",
        _noted(draft, "name", "  "),
        f"  name: {_quoted(draft.name)}\n",
        *_exclusions(draft),
        _noted(draft, "companions", "  "),
        f"  companions: {flow(draft.companions)} # files that belong to scans\n",
        "  examples:\n",
        *(f"    {flow(path)}: {flow(groups)}\n" for path, groups in draft.examples.items()),
    ]


def _contents(draft: Draft) -> list[str]:
    """What is in the files, and which lie beside them."""
    return [
        _noted(draft, "format"),
        f"format: {draft.format}\n",
        *([_noted(draft, "reader"), f"reader: {draft.reader}\n"] if draft.reader else []),
        _noted(draft, "unit"),
        f"unit: {draft.unit} # mm, cm, m, inch, or auto\n",
        _noted(draft, "axes"),
        f"axes: {flow(draft.axes)} # of the file: up the head, out of the face; or: unknown\n\n",
        _noted(draft, "landmarks"),
        *_landmarks(draft),
        _noted(draft, "images"),
        f'images: {flow(draft.images)} # ["{{dir}}/{{stem}}.jpg"]\n',
        "# views: {renders: 4} # pictures for networks, none by default; photos need cameras:\n",
        '# views: {photos: [{file: "{dir}/{stem}.jpg", camera: landmarks, landmarks: {file: '
        '"{dir}/{photo}.pts", format: pts, scheme: ibug68}}]}\n\n',
    ]


def _people(draft: Draft) -> list[str]:
    """What scans are neutral, and who the subjects are."""
    return [
        _noted(draft, "neutral"),
        f"neutral: {flow(draft.neutral)} # values of the group expression; or: all\n",
        "benchmark: null # the benchmark its people belong to, which keeps them out of training\n",
        "subjects:\n",
        *(
            [f"  case: {draft.case} # names mix capital and small letters\n"]
            * (draft.case != "keep")
        ),
        *([f"  metadata: {flow(draft.metadata)}\n"] if draft.metadata else []),
        "  same_as: {} # anna: other_source:a17\n",
    ]


def _exclusions(draft: Draft) -> list[str]:
    if not draft.exclude:
        return ['  exclude: [] # - {pattern: "broken/**", reason: why}\n']
    notes = draft.notes.get("exclude", ("",) * len(draft.exclude))
    return [
        "  exclude:\n",
        *(
            f"    - {flow(rule)}{note and ' # ' + printable(note)}\n"
            for rule, note in zip(draft.exclude, notes, strict=True)
        ),
    ]


def _landmarks(draft: Draft) -> list[str]:
    if draft.landmarks is not None:
        fields = (f"  {name}: {flow(value)}\n" for name, value in draft.landmarks.items())
        return ["landmarks:\n", *fields]
    form = '# landmarks: {file: "{dir}/{stem}.pp", format: pp, scheme: FILL, required: false}\n'
    return ["landmarks: none\n", form]


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        plain = re.fullmatch(r"[+-]?[A-Za-z][\w/+-]*(\.[A-Za-z]\w*)?", value)
        words = ("yes", "no", "on", "off", "true", "false", "null", "none", "y", "n")
        keep = plain and value.isascii() and value.lower() not in words
        return value if keep else _escaped(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Single quotes keep the backslashes of a regular expression."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    """In double quotes, with escapes for what YAML does not take as it is."""
    return printable(json.dumps(text, ensure_ascii=False))
