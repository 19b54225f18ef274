"""Prints the rows of the registration benchmark: a table a method, groups' means, the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]
OURS = "facefold"
COLUMNS = (  # heading, key, format
    ("mean", "face_mean", ".2f"),
    ("med", "face_median", ".2f"),
    ("p95", "face_p95", ".2f"),
    ("max", "face_max", ".1f"),
    ("head", "head_mean", ".2f"),
    ("med", "head_median", ".2f"),
    ("p95", "head_p95", ".2f"),
    ("max", "head_max", ".1f"),
    ("nodata", "no_data_mean", ".1f"),
    ("prec", "precision", ".3f"),
    ("rec", "recall", ".3f"),
    ("scan", "scan_median", ".3f"),
    ("p95", "scan_p95", ".2f"),
    ("flipF", "flips_truth_face", ".0f"),
    ("flipH", "flips_truth_head", ".0f"),
    ("modF", "flips_model_face", ".0f"),
    ("modH", "flips_model_head", ".0f"),
    ("cross", "crossings", ".0f"),
    ("wrong", "wrong_crossings", ".0f"),
    ("cpu s", "cpu_s", ".2f"),
    ("wall", "wall_s", ".2f"),
    ("MB", "peak_mb", ".0f"),
)
GROUPS = {
    "neutral and moderate noise": ("neutral",),
    "1 mm noise": ("noise",),
    "expressions and open jaws": ("expression",),
    "partial": ("partial",),
    "clutter": ("clutter",),
    "resolution": ("resolution",),
    "start": ("start",),
    "all": ("neutral", "noise", "expression", "partial", "clutter", "resolution", "start"),
}


LEGEND = """mean med p95 max: error on supported face vertices, then on the whole supported head
nodata: mean error of vertices with a truth where the scan has no data; prec rec: of `validity`
scan p95: scan points of the face to the mesh; real scan: within 80 mm of the nose tip
flipF flipH: triangles turned over against the truth, in the face and on the head, without those
  that the template at rest turns over against the truth of the mean face
modF modH: the same against what the method's own model explains
cross: self-intersecting triangles that the template has not; wrong: and the truth neither
cpu s, wall, MB: one scan on one thread, search structure included; memory beyond the inputs
"""


def print_report(rows: Sequence[Row], notes: Sequence[str]) -> None:
    for model in unique(rows, "model"):
        of_model = [row for row in rows if row["model"] == model]
        methods = sorted(unique(of_model, "method"), key=lambda name: name != OURS)
        for method in methods:
            others = [m for m in methods if m != OURS] if method == OURS else []
            print_table(f"{method}, {model}", of_model, method, others)
        if OURS in methods:
            print_targets(model, of_model)
    print(LEGEND)
    for note in notes:
        print(f"note: {note}")


def print_table(title: str, rows: Sequence[Row], method: str, others: Sequence[str]) -> None:
    """The method's rows and group means; against each of `others` the ratio of error and of CPU."""
    own = [row for row in rows if row["method"] == method]
    lines = [(row["case"], [row], [row["case"]]) for row in own]
    for group, kinds in GROUPS.items():
        members = [r for r in own if r["kind"] in kinds and value(r, "face_mean") is not None]
        if members:
            lines.append((f"· {group} ({len(members)})", members, [r["case"] for r in members]))
    head = [h for h, _, _ in COLUMNS] + [x for m in others for x in (f"{m} err×", "cpu×")]
    body = []
    for name, members, cases in lines:
        cells = [shown(average(members, key), style) for _, key, style in COLUMNS]
        for other in others:
            peer = [r for r in rows if r["method"] == other and r["case"] in cases]
            cells += [shown(ratio(peer, members, k), ".2f") for k in ("face_mean", "cpu_s")]
        status = members[0]["status"] if len(members) == 1 and name in cases else ""
        cells.append("" if status == "converged" else f"{status} {members[0]['reason']}".strip())
        body.append([name, *cells])
    widths = [
        max(len(line[i]) for line in [[title, *head, ""], *body]) for i in range(len(head) + 1)
    ]
    for line in [[title, *head, ""], *body]:
        cells = [line[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(line[1:-1], widths[1:], strict=True)]
        print("  ".join([*cells, line[-1]]).rstrip())
    print()


@dataclass(frozen=True)
class Target:
    name: str
    limit: float
    measure: Callable[[Sequence[Row], Sequence[Row]], tuple[float | None, str]]
    """(our rows, all rows) -> the figure and which case it comes from."""
    at_least: bool = False

    def line(self, own: Sequence[Row], rows: Sequence[Row]) -> str:
        figure, where = self.measure(own, rows)
        sign = "≥" if self.at_least else "≤"
        if figure is None:
            return f"  {'–':7} {self.name} {sign} {self.limit:g}: not measured"
        met = figure >= self.limit if self.at_least else figure <= self.limit
        word = "met" if met else "MISSED"
        place = f" ({where})" if where else ""
        return f"  {word:7} {self.name} {sign} {self.limit:g}: {figure:.3f}{place}"


def print_targets(model: str, rows: Sequence[Row]) -> None:
    own = [row for row in rows if row["method"] == OURS]
    print(f"targets, {model}")
    for target in targets(model, [m for m in unique(rows, "method") if m != OURS]):
        print(target.line(own, rows))
    print()


def targets(model: str, peers: Sequence[str]) -> list[Target]:
    neutral, expression = ("neutral",), ("expression",)
    accuracy = [
        Target("mean error, neutral and moderate noise", 0.70, group_mean("face_mean", neutral)),
        Target("p95 error, neutral and moderate noise", 1.7, group_mean("face_p95", neutral)),
        Target("mean error, expressions", 0.85, group_mean("face_mean", expression)),
        Target("p95 error, expressions", 2.0, group_mean("face_p95", expression)),
    ]
    if model == "bare":
        kinds = neutral + expression
        accuracy = [
            Target("mean error, neutral and expressions", 0.95, group_mean("face_mean", kinds)),
            Target("p95 error, neutral and expressions", 2.4, group_mean("face_p95", kinds)),
        ]
    against = [Target(f"error over {m}'s, each case", 1.05, worst_ratio(m)) for m in peers] + [
        Target("best peer's mean error over ours", 2.0, best_peer, at_least=True)
    ]
    return [
        *accuracy,
        *against,
        Target("real scan, scan to mesh median", 0.10, group_mean("scan_median", ("real",))),
        Target("real scan, scan to mesh p95", 0.45, group_mean("scan_p95", ("real",))),
        Target("flips in the face against the truth, each case", 0, worst("flips_truth_face")),
        Target("flips on the head against the truth, each case", 10, worst("flips_truth_head")),
        Target("flips in the face against our model, each case", 0, worst("flips_model_face")),
        Target("flips on the head against our model, each case", 10, worst("flips_model_head")),
        Target("new self-intersecting triangles, each case", 20, worst("crossings")),
        Target("… that the truth does not have, each case", 20, worst("wrong_crossings")),
        Target("precision of validity, each case", 0.95, worst("precision", min), at_least=True),
        Target("recall of validity, each case", 0.95, worst("recall", min), at_least=True),
        Target("mean error without data, each case", 3.0, worst("no_data_mean")),
        Target("start off against good start, mean error", 0.1, start_gap),
        Target("CPU-s, 100k triangles", 0.5, of_case("cpu_s", "100k triangles")),
        Target(
            "batch against alone, largest coordinate",
            1e-3,
            group_mean("batch_difference_mm", ("batch",)),
        ),
        Target("CPU of meshmonk over ours", 20, cpu_ratio("meshmonk"), at_least=True),
        Target("peak MB, each case", 600, worst("peak_mb")),
        Target("failed cases", 0, failures),
    ]


Measure = Callable[[Sequence[Row], Sequence[Row]], tuple[float | None, str]]


def group_mean(key: str, kinds: Sequence[str]) -> Measure:
    def measure(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
        return average([r for r in own if r["kind"] in kinds], key), ""

    return measure


def worst(key: str, choose: Callable[..., Any] = max) -> Measure:
    def measure(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
        found = [(row[key], row["case"]) for row in own if value(row, key) is not None]
        return choose(found) if found else (None, "")

    return measure


def of_case(key: str, case: str) -> Measure:
    def measure(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
        return average([r for r in own if r["case"] == case], key), ""

    return measure


def worst_ratio(peer: str) -> Measure:
    def measure(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
        theirs = {r["case"]: r for r in rows if r["method"] == peer}
        found = [
            (row["face_mean"] / theirs[row["case"]]["face_mean"], row["case"])
            for row in own
            if value(row, "face_mean") and value(theirs.get(row["case"], {}), "face_mean")
        ]
        return max(found) if found else (None, "")

    return measure


def best_peer(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
    """Over the cases that both finished: a peer that fails the hard ones is not rewarded."""
    found = []
    for peer in unique(rows, "method"):
        theirs = [r for r in rows if r["method"] == peer]
        if peer != OURS and (factor := ratio(theirs, own, "face_mean")) is not None:
            found.append((factor, peer))
    return min(found) if found else (None, "")


def cpu_ratio(peer: str) -> Measure:
    def measure(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
        return ratio([r for r in rows if r["method"] == peer], own, "cpu_s"), ""

    return measure


def start_gap(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
    by_case = {r["case"]: value(r, "face_mean") for r in own}
    good, off = by_case.get("start good"), by_case.get("start 20° 25 mm off")
    return (None if good is None or off is None else abs(off - good)), ""


def failures(own: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, str]:
    names = [r["case"] for r in own if r["status"] == "failed"]
    return float(len(names)), ", ".join(names)


def ratio(peer: Sequence[Row], own: Sequence[Row], key: str) -> float | None:
    """Peer's mean over ours, on the cases that both have."""
    ours = {r["case"]: value(r, key) for r in own}
    pairs = [
        (value(r, key), ours[r["case"]])
        for r in peer
        if value(r, key) is not None and ours.get(r["case"]) is not None
    ]
    if not pairs:
        return None
    theirs, mine = np.mean(pairs, axis=0)
    return float(theirs / mine)


def average(rows: Sequence[Row], key: str) -> float | None:
    found = [x for row in rows if (x := value(row, key)) is not None]
    return float(np.mean(found)) if found else None


def value(row: Row, key: str) -> float | None:
    found = row.get(key)
    return None if found is None else float(found)


def shown(figure: float | None, style: str) -> str:
    return "–" if figure is None else format(figure, style)


def unique(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
