"""What a published dataset says of its sources' registries: without people's own names, and without
those who withdrew consent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.catalogue.own_names import hiding
from pipeline.registry import SourceRegistry, public_name
from pipeline.registry.profiles import Profile
from pipeline.store.withdrawn import registry_without
from pipeline.types import Withdrawal

OF_THE_SOURCE = frozenset(
    {"id", "title", "version", "unconfirmed", "licence", "citation", "access", "format", "unit"}
)
"""Fields that are about the source and not about its people: authors stay authors."""


def said_of_registry(
    registry: SourceRegistry,
    names: Mapping[str, str],
    known: Mapping[str, SourceRegistry],
    withdrawn: Sequence[Withdrawal] = (),
) -> dict[str, Any]:
    """The registry as provenance keeps it, JSON-able.

    `names` maps people's own names to their pseudonyms, `known` the sources of the build. Who
    withdrew is in no `same_as`, example, exclusion or rule.
    """
    hide = hiding(names)
    dump: dict[str, Any] = registry.model_dump(mode="json")
    dump["subjects"]["same_as"] = {
        registry.said_name(name): public_name(other, known)
        for name, other in dump["subjects"]["same_as"].items()
    }
    for rule in dump["rules"]:
        if rule["same_as"]:
            rule["same_as"] = public_name(rule["same_as"], known)
    said = {k: v if k in OF_THE_SOURCE else _replaced(v, hide) for k, v in dump.items()}
    return registry_without(said, withdrawn) if withdrawn else said


def said_of_profile(
    profile: Profile, names: Mapping[str, str], withdrawn: Sequence[Withdrawal] = ()
) -> dict[str, Any]:
    """The profile as provenance keeps it, JSON-able; what names people who withdrew is left out."""
    said: dict[str, Any] = _replaced(profile.model_dump(mode="json"), hiding(names))
    for source, entry in said["sources"].items():
        if any(one.of_path(source, entry["subjects"] or "") for one in withdrawn):
            entry["subjects"] = "…"
    return said


def _replaced(value: Any, hide: Callable[[str], str]) -> Any:
    """A JSON value with all its texts, keys included, put through `hide`."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {hide(key): _replaced(item, hide) for key, item in value.items()}
    return [_replaced(item, hide) for item in value] if isinstance(value, list) else value
