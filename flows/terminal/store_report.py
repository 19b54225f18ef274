"""What `facefold inspect` and `prune` show of a store to people."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import JustifyMethod
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from flows.terminal.console import out, plain
from pipeline.store.inspection import VERDICTS
from pipeline.text import printable

if TYPE_CHECKING:
    from pipeline.store.pruning import Pruned

EXPRESSIONS = 12
"""As many are named."""
BAR = 40
"""Characters of the longest bar of the histogram."""
NAMED = 3
"""As many people with most and with fewest scans."""
UNKNOWN = "–"
TEXTS = ("", "source", "split", "licence", "field", "type", "unit", "version", "published")
"""Headings of columns that hold no numbers."""
GROUP = ("scans", "people", *VERDICTS)
USES = {
    "commercial": ("commercial use", "commercial"),
    "redistribution": ("redistribution", "redistribution"),
    "both": ("commercial use and redistribution", "commercial and redistribution"),
}
"""Key of `use` -> how it is called, and the question that selects its rows."""

Found = Mapping[str, Any]
"""What `inspect_store` tells, or a part of it."""


def store_report(store: str, found: Found) -> None:
    """Prints what `inspect_store` found in `store`; of people, examples alone.

    "fit" is the distance from scan to mesh, median and 95th percentile; all figures are medians
    over scans.
    """
    plain(store)
    for line in heading(found):
        plain(f"  {line}")
    numbers = {name: str(i + 1) for i, name in enumerate(found["licences"])}
    plain("")
    show(
        ("source", *GROUP, "fit mm", "p95 mm", "cover", "lic."),
        (of_source(name, told, numbers) for name, told in found["by_source"].items()),
    )
    show(("split", *GROUP), (of_group(name, told) for name, told in found["by_split"].items()))
    show(
        ("", "licence", "scans", "commercial", "redistribution"),
        (of_licence(name, told, numbers[name]) for name, told in found["licences"].items()),
    )
    for line in uses(store, found):
        plain(f"  {line}")
    plain("")
    for line in [*expressions(found), *people(found["scans_per_identity"])]:
        plain(f"  {line}")
    plain("")
    show(
        ("field", "type", "shape", "unit", "size"),
        (of_field(name, told) for name, told in found["fields"].items()),
    )
    show(("version", "published", "size", ""), map(of_version, found["versions"]))


def prune_report(store: str, pruned: Pruned, dry_run: bool) -> None:
    """Prints what went, or would go."""
    for version in pruned.versions:
        published = f"{version.published:%Y-%m-%d %H:%M:%S UTC}"
        plain(f"version {version.name}, published {published}, {decimal(version.bytes)}")
    for path in pruned.leftovers:
        plain(f"{path.name}, left by a process that was killed")
    verb = "would free" if dry_run else "freed"
    plain(f"{store}: {verb} {decimal(pruned.bytes)}" if pruned.bytes else f"{store}: nothing to do")


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without frames: numbers to the right, no name cut short."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in columns:
        justify: JustifyMethod = "left" if name in TEXTS else "right"
        table.add_column(name, justify=justify, no_wrap=name == columns[0], overflow="fold")
    body = list(rows)
    for row in body:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if body:
        out.print(table)
        plain("")


def count(n: float) -> str:
    return f"{n:,.0f}" if n == int(n) else f"{n:,.1f}"


def heading(found: Found) -> Iterator[str]:
    model = found["model"]
    stands_in = ", which is not FLAME" if model["is_stand_in"] else ""
    yield f"{count(found['rows'])} scans of {count(found['identities'])} people, " + (
        decimal(found["bytes"]["all"])
    )
    yield f"version {found['version']}, schema {found['schema_version']}, " + (
        f"profile {found['profile']}"
    )
    yield f"model {model['name']}{stands_in}, {model['n_vertices']:,} vertices"
    if found["labelled_identities"]:
        yield f"{count(found['labelled_identities'])} people have one label for all their scans"
    yield from views(found["views"])
    if attached := [name for name, told in found["fields"].items() if told["attached"]]:
        yield f"attached: {', '.join(attached)}"
    for name in ("quarantined", "excluded"):
        if found[name]:
            listed = ", ".join(f"{source} {count(n)}" for source, n in found[name].items())
            yield f"{name}: {listed}"


def views(told: Found) -> Iterator[str]:
    """How many views there are, of which kinds, and how many there are not."""
    if told["rows"]:
        kinds = ", ".join(f"{kind} {count(n)}" for kind, n in told["kind"].items())
        yield f"{count(told['rows'])} views of {count(told['scans'])} scans: {kinds}"
    if told["refused"]:
        codes = ", ".join(f"{code} {count(n)}" for code, n in told["refused"].items())
        yield f"{count(sum(told['refused'].values()))} views could not be made: {codes}"


def of_group(name: str, told: Found) -> tuple[str, ...]:
    return name, *(count(told[key]) for key in ("rows", "identities", *VERDICTS))


def of_source(name: str, told: Found, licences: Mapping[str, str]) -> tuple[str, ...]:
    figures = (told[key] for key in ("scan_to_mesh_median_mm", "scan_to_mesh_p95_mm", "coverage"))
    shown = (UNKNOWN if figure is None else f"{figure:.2f}" for figure in figures)
    return *of_group(name, told), *shown, ", ".join(licences[held] for held in told["licences"])


def of_licence(name: str, told: Found, number: str) -> tuple[str, ...]:
    named = "none stated" if name == "none" else name
    return number, named, *(count(told[key]) for key in ("rows", "commercial", "redistribution"))


def of_field(name: str, told: Found) -> tuple[str, ...]:
    rows_of = {"scan": [], "identity": ["people"]}
    several = rows_of.get(told["row_of"], [f"{told['row_of']}s"])
    shape = " × ".join(map(str, [*several, *told["shape"]]))
    return name, told["type"], shape or "1", told["unit"], decimal(told["bytes"])


def of_version(told: Found) -> tuple[str, ...]:
    published = told["published"].replace("T", " ").replace("+00:00", " UTC")
    return told["version"], published, decimal(told["bytes"]), "HEAD" if told["current"] else ""


def uses(store: str, found: Found) -> Iterator[str]:
    """A sentence for each use: how many rows it has, and how to get a store of them."""
    n, licences = found["rows"], len(found["licences"])
    yield f"{'one licence' if licences == 1 else f'{licences} licences are mixed'}"
    for use, (called, question) in USES.items():
        allowed = found["use"][use]
        if allowed == n:
            yield f"{called}: all {count(n)} rows"
        elif not allowed:
            yield f"{called}: none of {count(n)} rows"
        else:
            command = shlex.join(["facefold", "subset", store, "--where", question])
            yield f"{called}: {count(allowed)} of {count(n)} rows; {command} --out OUT"


def expressions(found: Found) -> Iterator[str]:
    ranked = sorted(found["expression"].items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{name or 'no name'} {count(n)}" for name, n in ranked[:EXPRESSIONS])
    more = f" and {count(len(ranked) - EXPRESSIONS)} more" if len(ranked) > EXPRESSIONS else ""
    yield f"{count(len(ranked))} expressions: {listed}{more}"
    yield f"neutral: {count(found['neutral'])} of {count(found['rows'])} scans"


def people(spread: Found) -> Iterator[str]:
    """Scans a person as a histogram, and who has most and fewest."""
    yield f"scans a person: {spread['min']} to {count(spread['max'])}, " + (
        f"median {count(spread['median'])}"
    )
    longest = max(spread["histogram"].values())
    for scans, n in spread["histogram"].items():
        yield f"  {scans:>7} {'█' * max(1, round(BAR * n / longest))} {count(n)}"
    for name in ("most", "fewest") if spread["min"] < spread["max"] else ():
        some = list(spread[name].items())[:NAMED]
        yield f"{name}: {', '.join(f'{person} {count(n)}' for person, n in some)}"
