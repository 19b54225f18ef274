"""What a build leaves of a person outside of the store: results, hashes, decisions, history."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from pipeline.build.comparing import compared_path
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import forget, keys_held, open_ledger
from pipeline.build.plan import hash_cache, ledger_path
from pipeline.build.result_files import SUFFIX, scan_id_in
from pipeline.build.who_is_who import UNDECIDED, findings_path
from pipeline.catalogue.digests import forget as forget_files
from pipeline.catalogue.own_names import Left
from pipeline.errors import FacefoldError
from pipeline.registry import load_registry
from pipeline.store import open_store
from pipeline.store.durable_files import write_file
from pipeline.store.paths import HEAD
from pipeline.types import Withdrawal

TRANSIENT = ("prefect", "shared")
"""Folders of `work` that may name anybody, and that are made anew: Prefect's history, and what a
build that was killed left for its workers."""
OF_SCANS = ("results", "scans", "views", "embeddings")
"""Folders of `work` with files by the key of a result."""


def forget_results(config: BuildConfig, gone: Withdrawal) -> dict[str, int]:
    """Removes results from the ledger, and the files of results that are not in it, unless they are
    somebody else's: what was broken off between the two is completed."""

    def is_theirs(name: str) -> bool:
        return gone.of_scan(name) or gone.of_person(name)

    with open_ledger(ledger_path(config)) as ledger:
        scans, held = forget(ledger, is_theirs), keys_held(ledger)
    old = [
        path
        for path in _files(config, *OF_SCANS)
        if path.name.removesuffix(SUFFIX) not in held
        and ((scan_id := scan_id_in(path)) is None or is_theirs(scan_id))
    ]
    old += _of_people(config, is_theirs)
    for path in old:
        path.unlink(missing_ok=True)
    return {"results": scans, "result_files": len(old)}


def _of_people(config: BuildConfig, is_theirs: Callable[[str], bool]) -> Iterator[Path]:
    """What is left of comparing people, which the next build makes again as far as it is needed:
    labels that are not published, evidence of names that are not known, reports. The parameters
    that people are compared by stay: they are of all of them together."""
    evidence = _keys_compared(config, is_theirs)
    for folder, held in (("labels", _published_labels(config)), ("evidence", evidence)):
        for path in _files(config, f"people/{folder}"):
            if path.name.removesuffix(SUFFIX) not in held:
                yield path
    yield from filter(Path.exists, (findings_path(config), config.work / UNDECIDED))


def _keys_compared(config: BuildConfig, is_theirs: Callable[[str], bool]) -> set[str]:
    """Keys of the evidence of everybody else, of whom alone the record of what was compared is
    then; none where it cannot be read, and is removed."""
    path = compared_path(config)
    try:
        said = json.loads(path.read_bytes())
        said["keys"] = {k: v for k, v in said["keys"].items() if not is_theirs(k)}
        for name in ("pairs", "copies"):
            said[name] = [row for row in said[name] if not any(map(is_theirs, map(str, row)))]
        keys = set(said["keys"].values())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        path.unlink(missing_ok=True)
        return set()
    write_file(path, json.dumps(said).encode())
    return keys


def _files(config: BuildConfig, *names: str) -> Iterator[Path]:
    for name in names:
        for folder, _, files in os.walk(config.work / name):
            yield from (Path(folder, file) for file in files)


def _published_labels(config: BuildConfig) -> set[str]:
    """Keys of the labels of the people in the published version: files of others may be of somebody
    who has left, and are made anew where they are needed."""
    if not (config.store_folder / HEAD).is_file():
        return set()
    people = open_store(config.store_folder).table("identities")
    named = people["result_key"].to_pylist() if "result_key" in people.column_names else []
    return {key for key in named if key}


def forget_hashes(config: BuildConfig, gone: Withdrawal) -> int:
    """Removes the hashes of somebody's files from the cache; returns how many."""
    lefts = {}
    for entry in config.sources:
        registry = load_registry(entry.registry)
        lefts[os.path.realpath(entry.root)] = registry.id, Left(registry, [gone])

    def keeps(root: str, path: str, sha256: bytes) -> bool:
        if gone.of_content(sha256.hex()):
            return False
        if root in lefts:
            return not lefts[root][1].path(path)
        return not any(gone.of_path(source, path) for source, _ in lefts.values())

    return forget_files(hash_cache(config), keeps)


def remove_folders(config: BuildConfig) -> list[str]:
    """Removes the folders of `work` of which nothing depends but history; returns their paths."""
    there = [config.work / name for name in TRANSIENT if (config.work / name).is_dir()]
    for folder in there:
        shutil.rmtree(folder)
    return [str(folder) for folder in there]


def forget_decisions(path: Path, gone: Withdrawal) -> dict[str, int]:
    """Removes somebody from the decisions in `identities.yaml`: entries that are of nobody else, or
    of one other alone, and comments that hold their full names. All else stays as it is.

    Raises FacefoldError where the file is no YAML.
    """
    if not path.is_file():
        return {"entries": 0, "comments": 0}
    text = path.read_text(encoding="utf-8")
    lines, entries = _without_entries(text, gone)
    kept = [_without_comment(line, gone) for line in lines]
    comments = sum(old != new for old, new in zip(lines, kept, strict=True))
    if (new_text := "".join(kept)) != text:
        write_file(path, new_text.encode())
    return {"entries": entries, "comments": comments}


def _without_entries(text: str, gone: Withdrawal) -> tuple[list[str], int]:
    """The lines of the file without somebody's decisions, and how many these were."""
    lines = text.splitlines(keepends=True)
    listed = _entries(text)
    removed = 0
    for entry in reversed(listed):
        people = _people(entry)
        named = [node for node in _scalars(entry) if _names(gone, node.value)]
        if not named:
            continue
        others = [node.value for node in people if not _names(gone, node.value)]
        first, last = entry.start_mark.line, max(n.end_mark.line for n in _scalars(entry))
        if len(others) > 1 and len(named) == len(people) - len(others):
            _replace_people(lines, entry, others)
            continue
        lines[first : last + 1] = []
        removed += 1
    if removed == len(listed) > 0:  # a list without an entry is no list
        at = next(i for i, line in enumerate(lines) if line.startswith("decisions:"))
        lines[at] = "decisions: []\n"
    return lines, removed


def _entries(text: str) -> list[yaml.MappingNode]:
    """The nodes below `decisions`, in block style: one or more lines each."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise FacefoldError(
            f"identities.yaml: unreadable ({' '.join(str(error).split())}); correct it, then "
            "withdraw again"
        ) from error
    if not isinstance(root, yaml.MappingNode):
        return []
    for key, value in root.value:
        if key.value == "decisions" and isinstance(value, yaml.SequenceNode):
            return [node for node in value.value if isinstance(node, yaml.MappingNode)]
    return []


def _list_of(entry: yaml.MappingNode) -> yaml.SequenceNode | None:
    for key, value in entry.value:
        if key.value in ("same", "different") and isinstance(value, yaml.SequenceNode):
            return value
    return None


def _people(entry: yaml.MappingNode) -> list[yaml.ScalarNode]:
    found = _list_of(entry)
    return [] if found is None else list(_scalars(found))


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for one in child if isinstance(child, tuple) else (child,):
            yield from _scalars(one)


def _replace_people(lines: list[str], entry: yaml.MappingNode, people: list[str]) -> None:
    """The entry's list with these people, in one line."""
    found = _list_of(entry)
    assert found is not None  # it has people
    start, end = found.start_mark, list(_scalars(found))[-1].end_mark
    if found.flow_style:
        end = found.end_mark
    before, after = lines[start.line][: start.column], lines[end.line][end.column :]
    quoted = ", ".join(yaml.safe_dump(name, default_style='"').strip() for name in people)
    if not found.flow_style:  # its first dash is on a line of its own
        before = lines[start.line - 1].rstrip("\n") + " "
        lines[start.line - 1 : end.line + 1] = [f"{before}[{quoted}]{after}"]
    else:
        lines[start.line : end.line + 1] = [f"{before}[{quoted}]{after}"]


def _names(gone: Withdrawal, text: str) -> bool:
    """Whether a text holds the full name of somebody or of their scan."""
    return gone.without_names(text) != text


def _without_comment(line: str, gone: Withdrawal) -> str:
    """The line; of one whose comment names somebody, what is before it."""
    before, sign, comment = line.partition("#")
    if not sign or (before and not before[-1].isspace()) or not _names(gone, comment):
        return line
    return f"{before.rstrip()}\n" if before.strip() else ""
