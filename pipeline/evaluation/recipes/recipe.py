"""Recipes of M3DFB: which parts compare a prediction with its truth, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pipeline.errors import FacefoldError

RIGID = ("RLR", "ICP")
"""Alignments without deformation: five landmarks, or those and then nearest points."""
WARPS = ("ELR", "NICP")
"""Deformations that only say what corresponds: elastic by 51 landmarks, non-rigid ICP."""
CORRESPONDENCES = ("chamfer", "P2Tri", "identity")
"""Nearest point of the truth, nearest point of its triangles, point of the same number."""
CORRECTION = "ETC"
"""Shifts the truth's points towards a correspondence that keeps the topology's order."""


class Recipe(NamedTuple):
    """How an error is computed."""

    name: str
    """What tables call it."""
    rigid: str
    """One of RIGID."""
    warps: tuple[str, ...]
    """Some of WARPS, in their order."""
    correspondence: str
    """One of CORRESPONDENCES."""
    corrected: bool


def spelled(name: str, parts: str) -> Recipe:
    """A recipe from its parts, such as "RLR+ELR+chamfer+ETC".

    One of RIGID, then any of WARPS, one of CORRESPONDENCES and, if wanted, ETC, in this order;
    capitals do not matter. Raises FacefoldError for anything else.
    """
    known = {part.lower(): part for part in (*RIGID, *WARPS, *CORRESPONDENCES, CORRECTION)}
    said = [part.strip() for part in parts.split("+")]
    found = [known.get(part.lower(), part) for part in said]
    rigid = [part for part in found if part in RIGID]
    warps = tuple(part for part in found if part in WARPS)
    matching = [part for part in found if part in CORRESPONDENCES]
    corrected = [part for part in found if part == CORRECTION]
    whole = [*rigid, *(w for w in WARPS if w in warps), *matching, *corrected]
    if len(rigid) != 1 or len(matching) != 1 or len(corrected) > 1 or found != whole:
        raise FacefoldError(
            f"recipe {parts!r}: expected {' or '.join(RIGID)}, then {' and '.join(WARPS)} if "
            f"wanted, then one of {', '.join(CORRESPONDENCES)}, then {CORRECTION} if wanted, such "
            f"as RLR+ELR+chamfer+ETC, or a name: {', '.join(RECIPES)}"
        )
    return Recipe(name, rigid[0], warps, matching[0], bool(corrected))


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        name: spelled(name, parts)
        for name, parts in {
            "E1": "ICP+chamfer",
            "E8": "ICP+ELR+NICP+chamfer+ETC",
            "E12": "RLR+ELR+chamfer+ETC",
            "E16": "RLR+ELR+NICP+chamfer+ETC",
            "RLR_chamfer": "RLR+chamfer",
            "RLR_correct": "RLR+chamfer+ETC",
            "True": "RLR+identity",
        }.items()
    }
)
"""Those that have a name: E1 … E16 and True in the authors' code, two more of landmarks only."""


def recipes_of(text: str) -> tuple[Recipe, ...]:
    """The recipes of a list such as "E1,E12,RLR+P2Tri", each of RECIPES or spelled; each once.

    One that is spelled is called as it is spelled here, so that RLR+p2tri and rlr+P2Tri are one.
    Raises FacefoldError for what is neither, and if there is none.
    """
    found: dict[str, Recipe] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        recipe = RECIPES[word] if word in RECIPES else _named(spelled(word, word))
        found[recipe.name] = recipe
    if not found:
        raise FacefoldError(f"recipe {text!r}: none named, expected some of {', '.join(RECIPES)}")
    return tuple(found.values())


def _named(recipe: Recipe) -> Recipe:
    parts = [recipe.rigid, *recipe.warps, recipe.correspondence]
    return recipe._replace(name="+".join([*parts, *([CORRECTION] if recipe.corrected else [])]))
