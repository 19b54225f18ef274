"""One prediction scored: read, looked at for what users get wrong, compared with the truth, and the
mean head beside it. What is scored is kept by a key over all that it depends on."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.build.code_keys import code_of
from pipeline.build.syntax import OWN, Use
from pipeline.catalogue.digests import Digest, Digests, file_digests
from pipeline.catalogue.tree import Entry
from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    Benchmark,
    Case,
    Finding,
    Given,
    Prediction,
    Score,
    Scored,
)
from pipeline.evaluation.predictions.faults import faults_of
from pipeline.evaluation.predictions.meshes import landmark_file_of
from pipeline.evaluation.scoring.kept_scores import Kept, kept_path, load_kept, save_kept

MISSING = "missing"
NOT_SCORED = "not_scored"
MIRRORED = "mirrored"
SCALED = "scaled"
SIZE_OFF = 0.01
"""Share of its size by which a prediction may be scaled to the truth and not be named."""


class Work(NamedTuple):
    """A case, and the keys of what is kept of it."""

    case: Case
    key: str
    """"" for a prediction that is missing or cannot be opened."""
    mean_key: str
    """Of the mean head beside it, which all predictions of one truth share; "" for a truth that
    cannot be opened."""
    files: tuple[Path, ...] = ()
    """What scoring reads."""
    fault: str = ""
    """Why it cannot be opened."""


def scoring_code(benchmark: Benchmark) -> str:
    """SHA-256 over the code that the scores of a benchmark depend on."""
    functions = (benchmark.cases, benchmark.read, benchmark.score, benchmark.mean_head)
    modules = {getattr(function, "func", function).__module__ for function in functions}
    own = {module for module in modules if module.partition(".")[0] == OWN}
    others = [_sha256(Path(sys.modules[module].__file__ or "")) for module in sorted(modules - own)]
    return _digest([code_of(Use(module) for module in sorted({*own, __name__})), others])


def opened_digests(cases: Iterable[Case], given: Given, cache: Path) -> dict[Path, str | OSError]:
    """File -> its SHA-256, or why it cannot be read; `cache` knows those that did not change."""
    paths = {path for case in cases for path in files_of(case, given)}
    absolute = {path: str(path.absolute())[1:] for path in paths}
    found: Digests = file_digests(
        Path("/"), {name: _entry(path, name) for path, name in absolute.items()}, cache
    )
    return {path: _hex(found[name]) for path, name in absolute.items()}


def files_of(case: Case, given: Given) -> tuple[Path, ...]:
    """What scoring a case reads: the truth, then the prediction and its landmarks."""
    if case.prediction is None:
        return case.truth
    landmarks = case.landmarks
    if landmarks is None:
        with suppress(FacefoldError):  # which reading the prediction raises again
            landmarks = landmark_file_of(case.prediction, given)
    own = dict.fromkeys(path for path in (case.prediction, landmarks) if path is not None)
    return (*case.truth, *own)


def _entry(path: Path, name: str) -> Entry | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return Entry(name, state.st_size, "", state.st_mtime_ns)


def _hex(found: Digest | OSError) -> str | OSError:
    return found if isinstance(found, OSError) else found.sha256.hex()


def works_of(
    cases: Sequence[Case], given: Given, code: str, digests: Mapping[Path, str | OSError]
) -> list[Work]:
    """The cases with their keys; `given.unit` is decided already."""
    choices = sorted(given.choices.items())
    named = [_sha256(Path(value)) for _, value in choices if value and Path(value).is_file()]
    common = [code, given.model.contents_hash, given.unit, choices, named]
    return [_work(case, files_of(case, given), common, digests) for case in cases]


def _work(
    case: Case, files: tuple[Path, ...], common: list[Any], digests: Mapping[Path, str | OSError]
) -> Work:
    known = {path: digests[path] for path in files}
    truth = [str(known[path]) for path in case.truth]
    of_truth = [*common, case.person, case.group, sorted(case.facts.items()), truth]
    mean_key = _digest(["mean head", *of_truth])
    unopened = [(path, why) for path, why in known.items() if isinstance(why, OSError)]
    if unopened:
        path, why = unopened[0]
        fault = f"{path}: {why.strerror}; allow it to be read, or replace it"
        return Work(case, "", "" if path in case.truth else mean_key, files, fault)
    if case.prediction is None:
        return Work(case, "", mean_key, files)
    predicted = [str(known[path]) for path in files[len(case.truth) :]]
    return Work(case, _digest([case.id, *of_truth, predicted]), mean_key, files)


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unscored(works: Iterable[Work], folder: Path) -> list[Work]:
    """Those of which something is not kept yet, in an order in which each truth is read once; what
    is damaged is removed."""
    whole = cache(lambda key: _is_whole(folder, key))
    keys = [(work, filter(None, (work.key, work.mean_key))) for work in works]
    found = [work for work, own in keys if sum(not whole(key) for key in own)]
    return sorted(found, key=lambda work: (work.case.person, work.mean_key))


def _is_whole(folder: Path, key: str) -> bool:
    if load_kept(folder, key) is not None:
        return True
    kept_path(folder, key).unlink(missing_ok=True)
    return False


def make_scores(work: Work, benchmark: Benchmark, given: Given, folder: Path) -> None:
    """Leaves the scores of a case, and of the mean head beside it, in the folder."""
    ways = ((work.mean_key, benchmark.mean_head), (work.key, benchmark.read))
    for key, read in ways:
        if key and not kept_path(folder, key).exists():
            judged = read is benchmark.read
            save_kept(folder, key, _kept(work.case, benchmark, given, read, judged))


def _kept(
    case: Case,
    benchmark: Benchmark,
    given: Given,
    read: Callable[[Case, Given], Prediction],
    judged: bool,
) -> Kept:
    """What becomes of a case with a prediction that is read so. A fault of it stops no other."""
    started = time.perf_counter()
    findings: list[Finding] = []
    scores: list[Score] = []
    fault = ""
    try:
        prediction = read(case, given)
        if judged:
            findings += prediction.findings
            findings += faults_of(prediction, case, given, neutral=benchmark.neutral)
        scores = benchmark.score(case, prediction, given)
    except FacefoldError as error:
        fault = str(error)
    if judged:
        findings += aligned_away(case, scores, {finding.kind for finding in findings})
    seconds = round(time.perf_counter() - started, 4)
    return Kept(tuple(scores), tuple(findings), fault, seconds)


def aligned_away(case: Case, scores: Sequence[Score], known: Iterable[str] = ()) -> list[Finding]:
    """What alignment hides of a prediction, by its figures: a reflection, another size; nothing of
    a kind that is `known` of it."""
    found = []
    flipped = [s for s in scores if s.figures.get("determinant", 1.0) < 0]
    if flipped and MIRRORED not in known:
        said = (
            f"fits the truth best as its mirror image (determinant −1 in {flipped[0].mode}, "
            f"{flipped[0].variant}), expected a proper rotation; negate one axis of the vertices, "
            "and of the landmarks, when they are saved"
        )
        found.append(Finding(MIRRORED, said, case.id, {"determinant": -1.0}))
    # of a mirror image only what allows reflections shows the size
    order = (AS_PUBLISHED, STRICT) if flipped else (STRICT, AS_PUBLISHED)
    fitted = [[s for s in scores if s.variant == v and "scale" in s.figures] for v in order]
    scales = [s.figures["scale"] for s in fitted[0] or fitted[1]]
    off = next((scale for scale in scales if abs(scale - 1) > SIZE_OFF), None)
    if off is not None and SCALED not in known:
        said = (
            f"is made {off:.3f} times as large to fit the truth, expected 1 (±{SIZE_OFF:.0%}); "
            "aligned scores hide that, metric ones count it"
        )
        found.append(Finding(SCALED, said, case.id, {"scale": off}))
    return found


def scored(works: Sequence[Work], folder: Path, lost: Mapping[str, str]) -> list[Scored]:
    """What became of all cases, from what is kept; `lost` says of cases why nothing is."""
    of_mean = cache(lambda key: load_kept(folder, key) if key else None)
    return [
        _scored(
            work, load_kept(folder, work.key) if work.key else None, of_mean(work.mean_key), lost
        )
        for work in works
    ]


def _scored(work: Work, found: Kept | None, mean: Kept | None, lost: Mapping[str, str]) -> Scored:
    case = work.case
    nothing = Kept(fault=lost.get(case.id, "") or work.fault)
    found, mean = found or nothing, mean or nothing
    findings = list(found.findings)
    if case.prediction is None and not work.fault:
        findings = [Finding(MISSING, "no prediction", case.id)]
    elif found.fault:
        findings.append(Finding(NOT_SCORED, found.fault, case.id))
    if mean.fault and mean.fault != found.fault:
        findings.append(Finding(NOT_SCORED, f"the mean head: {mean.fault}", case.id))
    return Scored(case, tuple(findings), found.scores, mean.scores)


def with_choices(benchmark: Benchmark, given: Given) -> Given:
    """With the value of every choice. Raises FacefoldError for one that the benchmark lacks."""
    known = benchmark.choices
    for name, value in given.choices.items():
        if name not in known:
            there = ", ".join(known) or "nothing"
            raise FacefoldError(
                f"--choose {name}={value}: {benchmark.title} lets one choose {there}"
            )
        if known[name].values and value not in known[name].values:
            there = ", ".join(known[name].values)
            raise FacefoldError(f"--choose {name}={value}: expected one of {there}")
    defaults = {name: (*choice.values, choice.otherwise)[0] for name, choice in known.items()}
    return replace(given, choices={**defaults, **given.choices})
