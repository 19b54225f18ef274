"""What a population makes of scans, keeps in a file, and supposes before any scan was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_people import BETWEEN, NOISE, SESSION, WITHIN, D, drawn, part_of, true_population

from pipeline.errors import FacefoldError
from pipeline.flame.stand_in import stand_in
from pipeline.identity.plda import belief
from pipeline.identity.population import Population, SeenScan, kind_of, numbers_of
from pipeline.registration.fusion import displacements
from pipeline.registration.template import Template, prepare_template

MODES = 30


@pytest.fixture(scope="module")
def template() -> Template:
    return prepare_template(stand_in(), "cpu", MODES)


def test_the_belief_of_a_person_is_that_of_all_that_adds_to_what_was_seen() -> None:
    """Two scans of one session share what the session did; a scan of another one does not."""
    rng = np.random.default_rng(2)
    seen = rng.normal(size=(3, D))
    sessions, kinds = ("x", "x", "y"), ("neutral", "smile", "neutral")
    scans = [
        SeenScan(part_of(place), "a", kind, session)
        for place, kind, session in zip(seen, kinds, sessions, strict=True)
    ]
    population = true_population()
    found = belief(population.evidence(scans))
    own = [WITHIN[kind_of(kind)] + np.diag(NOISE) for kind in kinds]
    spread = np.block(
        [
            [BETWEEN + SESSION * (sessions[i] == sessions[j]) + own[i] * (i == j) for j in range(3)]
            for i in range(3)
        ]
    )
    gain = np.hstack([BETWEEN] * 3) @ np.linalg.inv(spread)
    np.testing.assert_allclose(population.axes @ found.mean, gain @ seen.ravel(), atol=5e-3)
    expected = BETWEEN - gain @ np.vstack([BETWEEN] * 3)
    given = population.axes @ found.covariance @ population.axes.T
    np.testing.assert_allclose(given, expected, atol=2e-3)


def test_people_are_standard_normal_in_the_axes() -> None:
    axes = true_population().axes
    np.testing.assert_allclose(axes @ axes.T, BETWEEN, atol=1e-12)
    own = np.linalg.solve(axes, np.linalg.solve(axes, SESSION + WITHIN["neutral"]).T)
    np.testing.assert_allclose(own, np.diag(np.sort(np.diag(own))), atol=1e-9)


def test_a_sources_offset_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    place, offset = drawn(rng, BETWEEN), rng.normal(size=D)
    population = replace(true_population(), offsets={"far": offset})
    near, far = (
        population.evidence([SeenScan(part_of(place + shift), source)])
        for shift, source in ((0, "near"), (offset, "far"))
    )
    np.testing.assert_allclose(belief(near).mean, belief(far).mean, atol=1e-2)


def test_a_file_brings_the_same_population_back(tmp_path: Path) -> None:
    population = replace(true_population(), offsets={"a/b": np.ones(D)}, trust=0.7)
    population.save(tmp_path / "people.npz")
    found = Population.load(str(tmp_path / "people.npz"))
    assert found.digest == population.digest
    assert found.trust == 0.7
    assert list(found.offsets) == ["a/b"]
    assert found.calibration.people == 0
    assert replace(population, trust=0.8).digest != population.digest
    assert replace(population, offsets={}).digest != population.digest


def test_what_is_no_population_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "people.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(FacefoldError, match=r"people\.npz: no population"):
        Population.load(path)
    np.savez(path, format=np.array(1), mean=np.zeros(3))
    with pytest.raises(FacefoldError, match="not a population of format 1, but mean"):
        Population.load(path)
    np.savez(path, mean=np.array([{}]))
    with pytest.raises(FacefoldError, match="no population"):
        Population.load(path)


def test_scans_of_another_model_are_not_compared() -> None:
    small = SeenScan(part_of(np.zeros(D)), "a")
    large = Population(np.zeros(D + 1), np.eye(D + 1), np.eye(D + 1), {}, {})
    with pytest.raises(FacefoldError, match="16 numbers of a person and a population of 17"):
        large.evidence([small])


def test_every_class_but_neutral_has_an_expression() -> None:
    assert [kind_of(name) for name in ("neutral", "smile", "unknown", "")] == [
        "neutral",
        *["expression"] * 3,
    ]


def test_the_default_is_of_the_template(template: Template) -> None:
    population = Population.default(template, MODES, 40)
    assert population.size == 40
    for part in (population.session, *population.within.values()):
        assert np.linalg.eigvalsh(part).min() > 0
    assert np.trace(population.within["expression"]) > np.trace(population.within["neutral"])
    assert not population.calibration.measured


def test_numbers_look_like_the_displacements_they_are_of_whatever_the_head_did(
    template: Template,
) -> None:
    """A turn of 1° and a shift say nothing of a person."""
    numbers = np.zeros(displacements(template, MODES).shape[2])
    numbers[[0, 3, 20]] = 2.0, -1.0, 1.5
    moved = (displacements(template, MODES).numpy() @ numbers).T
    rest = template.tensors.template.numpy()
    turned = moved + np.cross([0.0, np.radians(1), 0.0], rest) + [3.0, -2.0, 1.0]
    plain, also = numbers_of(template, MODES, np.stack([moved, turned]))
    np.testing.assert_allclose(plain, also, atol=1e-3)
    np.testing.assert_allclose(plain[:25], numbers[:25], atol=0.15)
