"""Path templates of the files that belong to scans: `{dir}/{stem}.pp`, `lmk/{subject}.txt`.

A template is read off single files, each beside the scan whose name it holds, and kept where it
names a file of its own for many scans.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.registry.naming import fill, without_suffix
from pipeline.sources.columns import SEPARATORS

Groups = Mapping[str, str]
READ_OFF = 200
"""Files that templates are read off; all scans are then tried."""
MAX_TEXTS = 30
MIN_SHARE = 0.1
"""Of the scans: a template of fewer says nothing of how files are named."""
LISTED = 4
"""More files a scan than this become one template with a `*`."""


class Template(NamedTuple):
    text: str
    files: Mapping[str, str]
    """Scan -> its file, both relative paths."""


def find_templates(
    files: Sequence[str], scans: Mapping[str, Groups], *, shared: bool = False
) -> list[Template]:
    """Templates that name files for scans (relative path -> its groups), most scans first.

    No file is of two templates, and none of two scans unless files may be `shared`, as the photo of
    a person is.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        stems[posixpath.basename(without_suffix(scan)).lower()].append(scan)
        folders[posixpath.dirname(scan)].append(scan)
    texts = Counter[str]()
    for file in files[:: max(1, len(files) // READ_OFF)]:
        if not set(file) & set("{}*?[]"):
            texts.update(
                {_read_off(file, scan, scans[scan]) for scan in _near(file, stems, folders)}
            )
    there = {file.lower(): file for file in files}
    found = [_tried(text, scans, there) for text, _ in texts.most_common(MAX_TEXTS)]
    kept: list[Template] = []
    taken: set[str] = set()
    for template in sorted(found, key=lambda t: (-len(t.files), len(t.text), t.text)):
        own = set(template.files.values())
        enough = len(own) >= max(min(2, len(scans)), MIN_SHARE * len(scans))
        if enough and (shared or len(own) == len(template.files)) and not own & taken:
            kept.append(template)
            taken |= own
    return kept


def _near(
    file: str, stems: Mapping[str, Sequence[str]], folders: Mapping[str, Sequence[str]]
) -> list[str]:
    """A few scans that the file may belong to."""
    name = posixpath.basename(file).lower()
    parts = {name[i:j]: j - i for i in range(len(name)) for j in range(i + 1, len(name) + 1)}
    held = [part for part in parts if part in stems]
    same_folder = folders.get(posixpath.dirname(file), ())
    if held:
        longest = max(held, key=len)
        some = stems[longest]
        words = set(SEPARATORS.split(file.lower().replace("/", "_")))
        # of scans with one name, the one whose folders the file's path repeats
        return sorted(
            some,
            key=lambda scan: -len(words & set(SEPARATORS.split(scan.lower().replace("/", "_")))),
        )[:1]
    return list(same_folder[:50])


def _read_off(file: str, scan: str, groups: Groups) -> str:
    """The file's path with what the scan's path tells in braces."""
    folder, name = posixpath.split(file)
    scan_folder, stem = posixpath.split(without_suffix(scan))
    if folder == scan_folder:
        start = "{dir}/" if folder else ""
    elif scan_folder and folder.startswith(scan_folder + "/"):
        start = "{dir}" + folder[len(scan_folder) :] + "/"
    else:
        start = _with_groups(folder, groups) + "/" if folder else ""
    at = name.lower().find(stem.lower())
    if at >= 0:
        return start + name[:at] + "{stem}" + name[at + len(stem) :]
    return start + _with_groups(name, groups)


def _with_groups(text: str, groups: Groups) -> str:
    """Words of the text that are a group's value, the longest values first."""
    values = {value.lower(): name for name, value in groups.items() if value}
    for value in sorted(values, key=len, reverse=True):
        first, last = (("[A-Za-z]", r"\d")[c.isdigit()] for c in (value[0], value[-1]))
        if len(value) == 1:  # a single letter must be a word
            first = last = "[A-Za-z0-9]"
        pattern = rf"(?i)(?<!{first})(?<!{{){re.escape(value)}(?!{last})(?!}})"
        text = re.sub(pattern, f"{{{values[value]}}}", text)
    return text


def _tried(text: str, scans: Mapping[str, Groups], there: Mapping[str, str]) -> Template:
    """The template with the files it names, whatever the case of their names."""
    named = {scan: fill(text, scan, groups).lower() for scan, groups in scans.items()}
    return Template(text, {scan: there[file] for scan, file in named.items() if file in there})


def shortened(templates: Sequence[Template]) -> list[str]:
    """The templates' texts; many of one scan's name, such as views, as one with a `*`."""
    texts = [template.text for template in templates]
    if len(texts) <= LISTED:
        return texts
    starts = {text.split("{stem}")[0] for text in texts if "{stem}" in text}
    ends = {posixpath.splitext(text)[1] for text in texts}
    if len(starts) == 1 and all("{stem}" in text for text in texts):
        rests = [posixpath.splitext(text.split("{stem}", 1)[1])[0] for text in texts]
        common = posixpath.commonprefix(rests)
        return [f"{min(starts)}{{stem}}{common}*{end}" for end in sorted(ends)]
    return texts[:LISTED]
