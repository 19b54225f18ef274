"""Recipes by name and by their parts."""

from __future__ import annotations

import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.recipes.recipe import RECIPES, Recipe, recipes_of, spelled


def test_named_recipes_are_the_authors() -> None:
    assert RECIPES["E1"] == Recipe("E1", "ICP", (), "chamfer", corrected=False)
    assert RECIPES["E8"] == Recipe("E8", "ICP", ("ELR", "NICP"), "chamfer", corrected=True)
    assert RECIPES["E12"] == Recipe("E12", "RLR", ("ELR",), "chamfer", corrected=True)
    assert RECIPES["True"] == Recipe("True", "RLR", (), "identity", corrected=False)


def test_a_list_names_and_spells_each_recipe_once() -> None:
    found = recipes_of("E12, rlr + p2tri,RLR+P2Tri, icp+nicp+chamfer+etc,E12")
    assert [recipe.name for recipe in found] == ["E12", "RLR+P2Tri", "ICP+NICP+chamfer+ETC"]
    assert found[2] == Recipe("ICP+NICP+chamfer+ETC", "ICP", ("NICP",), "chamfer", corrected=True)


@pytest.mark.parametrize(
    "text",
    [
        "E2",
        "chamfer",
        "RLR",
        "RLR+ICP+chamfer",
        "RLR+chamfer+ELR",
        "RLR+NICP+ELR+chamfer",
        "RLR+chamfer+ETC+ETC",
        "RLR+chamfer+P2Tri",
        "RLR+ELR+ELR+chamfer",
        "",
        ",",
    ],
)
def test_what_is_no_recipe_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(FacefoldError, match=r"expected .*(RLR\+ELR\+chamfer\+ETC|E12)"):
        recipes_of(text)


def test_a_recipe_that_is_spelled_keeps_its_name() -> None:
    assert spelled("mine", "ICP+identity").name == "mine"
