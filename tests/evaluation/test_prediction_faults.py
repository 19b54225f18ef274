import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline import evaluation
from pipeline.errors import FacefoldError, UnitError
from pipeline.evaluation.benchmark import Case, Finding, Given, Prediction, no_points
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.predictions.faults import KINDS, faults_of, found_unit
from pipeline.evaluation.scoring.cases import MIRRORED, MISSING, NOT_SCORED, SCALED
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.schemes import SCHEMES
from pipeline.types import Array
from tests.evaluation.predicted_heads import SEED, foreign, head, mirrored, predicted
from tests.evaluation.scenes import oracle_scene

CASE = Case("it", "someone")
SEVEN, FIFTY_ONE, ALL = list(SEVEN_68), list(range(17, 68)), list(range(68))
MIRROR = SCHEMES["ibug68"].mirror


def given_of(model: FlameModel) -> Given:
    return Given(Path(), Path(), model, "mm")


def found(prediction: Prediction, given: Given | None = None, **options: bool) -> list[Finding]:
    findings = faults_of(prediction, CASE, given or given_of(stand_in()), **options)
    for finding in findings:
        assert finding.kind in KINDS
        assert finding.case == "it"
        assert "expected" in finding.said or "fit the mean head" in finding.said
    return findings


def kinds(prediction: Prediction, given: Given | None = None, **options: bool) -> list[str]:
    return [finding.kind for finding in found(prediction, given, **options)]


def good(model: FlameModel) -> Iterator[Prediction]:
    """Neutral heads as methods may deliver them: usual and strange, posed, rough, cut."""
    rng = np.random.default_rng(SEED)
    for number in range(14):
        vertices = head(number, model)
        turn = Rotation.random(rng=rng).as_matrix()
        yield predicted(vertices, model)
        yield predicted(head(number, model, strange=1.5) @ turn.T / 10 + [3, 4, -50], model, 10.0)
        yield predicted(vertices + rng.normal(0, 0.3, vertices.shape), model)
        yield foreign(predicted(vertices @ turn.T, model), [SEVEN, FIFTY_ONE, ALL][number % 3])


def test_every_kind_that_is_found_has_a_meaning() -> None:
    calls = [
        node
        for path in Path(evaluation.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and node.args
    ]
    used = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert {"mirrored", "unit", "topology", "another_set"} <= used
    assert used <= set(KINDS)
    assert {MISSING, NOT_SCORED, MIRRORED, SCALED} <= set(KINDS)


def test_good_predictions_raise_no_alarm() -> None:
    assert not [finding for prediction in good(stand_in()) for finding in found(prediction)]


@pytest.mark.oracles
def test_good_predictions_of_the_oracles_model_raise_no_alarm(shared_data: Path) -> None:
    embedding = shared_data / "flame" / "landmark_embedding.npy"
    model = load_model(shared_data / "flame_ict" / "flame_ict.npz", embedding)
    given = given_of(model)
    assert not [finding for prediction in good(model) for finding in found(prediction, given)]


@pytest.mark.parametrize("kept", [SEVEN, FIFTY_ONE, ALL])
@pytest.mark.parametrize("number", range(4))
def test_a_mirrored_mesh_is_named(number: int, kept: list[int]) -> None:
    whole = mirrored(predicted(head(number)))
    assert kinds(whole) == ["mirrored"]
    assert kinds(foreign(whole, kept)) == ["mirrored"]
    turned = replace(whole, faces=whole.faces[:, [0, 2, 1]])
    assert kinds(turned) == ["mirrored"]
    [finding] = found(foreign(turned, kept))
    assert finding.kind == "landmark_order"
    assert "or the whole mesh is mirrored" in finding.said


def test_triangles_that_look_inwards_are_named() -> None:
    prediction = predicted(head(0))
    turned = replace(prediction, faces=prediction.faces[:, [0, 2, 1]])
    assert kinds(turned) == ["inside_out"]
    assert kinds(foreign(turned, SEVEN)) == ["inside_out"]
    assert kinds(replace(foreign(turned, SEVEN), faces=np.zeros((0, 3), int))) == []


@pytest.mark.parametrize(
    ("times", "likely"),
    [
        (10.0, "10.0 times"),
        (1000.0, "1000 times"),
        (0.1, "likely in cm"),
        (0.001, "likely in m:"),
        (1 / 25.4, "likely in inch"),
        (2.0, "1.93 times"),
    ],
)
def test_a_wrong_unit_is_named_with_the_likely_one(times: float, likely: str) -> None:
    [finding] = found(predicted(times * head(1)))
    assert finding.kind == "unit"
    assert "with unit mm, expected 80–105 mm" in finding.said
    assert re.search(likely, finding.said), finding.said
    assert kinds(foreign(predicted(times * head(1)), SEVEN)) == ["unit"]


def test_a_prediction_without_landmarks_has_an_extent() -> None:
    prediction = replace(predicted(head(1)), landmarks_68=no_points(), in_model_topology=False)
    assert kinds(prediction) == []
    assert kinds(replace(prediction, unit_mm=1000.0)) == ["unit"]


SEVEN_ORDERS = {
    "with left and right swapped": [3, 2, 1, 0, 4, 6, 5],
    "as 6 5 4 3 2 1 0 of the 7": [6, 5, 4, 3, 2, 1, 0],
    "as 2 0 1 3 4 5 6 of the 7": [1, 2, 0, 3, 4, 5, 6],
}


@pytest.mark.parametrize("said", SEVEN_ORDERS)
def test_any_order_of_seven_landmarks_is_named(said: str) -> None:
    [finding] = found(foreign(predicted(head(2)), SEVEN, np.array(SEVEN_ORDERS[said])))
    assert finding.kind == "landmark_order"
    assert said in finding.said
    assert finding.figures["best_mm"] < 5 < finding.figures["as_is_mm"]


@pytest.mark.parametrize(
    ("kept", "order", "said"),
    [
        (ALL, MIRROR, "left and right swapped"),
        (FIFTY_ONE, MIRROR[17:] - 17, "left and right swapped"),
        (ALL, np.arange(68)[::-1], "from the last to the first"),
        (FIFTY_ONE, np.arange(51)[::-1], "from the last to the first"),
        (ALL, np.roll(np.arange(68), 1), "one row further"),
        (FIFTY_ONE, np.roll(np.arange(51), -1), "one row earlier"),
        (ALL, np.roll(np.arange(68), -17), "with the contour behind the others"),
    ],
)
def test_usual_wrong_orders_of_many_landmarks_are_named(
    kept: list[int], order: Array, said: str
) -> None:
    [finding] = found(foreign(predicted(head(3)), kept, order))
    assert finding.kind == "landmark_order"
    assert said in finding.said


def test_the_order_of_another_scheme_is_named() -> None:
    order = SCHEMES["menpo68"].indices_68
    [finding] = found(foreign(predicted(head(3)), ALL, order))
    assert finding.kind == "landmark_order"
    assert "as menpo68" in finding.said


def test_landmarks_of_a_mesh_in_the_models_topology_may_be_swapped() -> None:
    prediction = predicted(head(4))
    swapped = replace(prediction, landmarks_68=prediction.landmarks_68[MIRROR])
    [finding] = found(swapped)
    assert finding.kind == "landmark_order"
    assert "mirrored" not in finding.said


@pytest.mark.parametrize("number", range(4))
def test_a_jaw_or_an_expression_left_in_is_named(number: int) -> None:
    for vertices in (head(number, jaw=0.05), head(number, std=0.5)):
        [finding] = found(predicted(vertices))
        assert finding.kind == "not_neutral"
        assert finding.figures["moved_rms_mm"] > finding.figures["limit_mm"]
        assert kinds(predicted(vertices), neutral=False) == []
    jaw = found(predicted(head(number, jaw=0.2)))[0].figures["jaw_deg"]
    assert jaw == pytest.approx(np.degrees(0.2), abs=0.3)


@pytest.mark.parametrize("kept", [FIFTY_ONE, ALL])
def test_an_open_mouth_is_named_by_landmarks_alone(kept: list[int]) -> None:
    open_mouth = predicted(head(5, jaw=0.1))
    assert kinds(foreign(open_mouth, kept)) == ["not_neutral"]
    assert kinds(foreign(open_mouth, SEVEN)) == []
    bare = replace(stand_in(), expression_basis_mm=stand_in().expression_basis_mm[:, :, :0])
    assert kinds(open_mouth, given_of(bare)) == ["not_neutral"]
    assert kinds(predicted(head(5)), given_of(bare)) == []


def test_several_faults_are_all_named() -> None:
    findings = found(mirrored(predicted(1000 * head(6, jaw=0.05))))
    assert [finding.kind for finding in findings] == ["unit", "mirrored", "not_neutral"]
    assert findings[-1].figures["jaw_deg"] == pytest.approx(np.degrees(0.05), abs=0.3)


def test_a_model_without_landmarks_judges_by_its_vertices() -> None:
    given = given_of(replace(stand_in(), landmarks=None))
    prediction = predicted(head(7))
    blind = replace(prediction, landmarks_68=no_points())
    assert kinds(blind, given) == []
    assert kinds(mirrored(blind), given) == ["mirrored"]
    assert kinds(foreign(prediction, SEVEN), given) == []


def test_points_of_an_image_are_left_to_their_benchmark() -> None:
    points = Prediction(np.zeros((68, 2)), np.zeros((0, 3), int), no_points())
    assert kinds(points) == []
    assert found_unit([points], stand_in()).unit == "mm"


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("cm", 10.0), ("m", 1000.0), ("inch", 25.4)])
def test_one_unit_is_found_for_all(unit: str, mm: float) -> None:
    heads = [predicted(head(number) / mm) for number in range(3)]
    odd = predicted(head(3) * 1000)
    assert found_unit([*heads, odd], stand_in()).unit == unit
    without = [replace(p, landmarks_68=no_points()) for p in heads]
    assert "only" in found_unit(heads, stand_in()).evidence
    assert found_unit([*heads, *without], stand_in()).unit == unit


def test_a_unit_is_found_through_a_wrong_order() -> None:
    order = np.array([6, 5, 4, 3, 2, 1, 0])
    heads = [foreign(predicted(head(number) / 1000), SEVEN, order) for number in range(3)]
    assert found_unit(heads, stand_in()).unit == "m"


def test_a_unit_that_cannot_be_found_has_to_be_declared() -> None:
    with pytest.raises(UnitError, match=r"none of mm, cm, m, inch.*--unit"):
        found_unit([predicted(head(0) / 2)], stand_in())
    with pytest.raises(FacefoldError, match="--unit"):
        found_unit([], stand_in())


@pytest.mark.oracles
def test_of_the_oracles_predictions_the_mirrored_one_is_named(
    oracles: Path, tmp_path: Path
) -> None:
    scene = oracle_scene(oracles, tmp_path)
    given = given_of(scene.model)
    named = {
        name: kinds(predicted(vertices, scene.model, 1000.0), given)
        for name, vertices in scene.predictions_m.items()
    }
    assert named.pop("near_mirrored") == ["mirrored"]
    assert not any(named.values()), named
