"""Profiles: in which splits the people of which sources are, other than by default.

The default keeps everyone out of training whom a benchmark may test on. A profile
(`registries/profiles/<id>.yaml`, or a file of one's own) says of sources what a publication did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from pipeline.errors import RegistryError
from pipeline.registry.load import field_fault, registries_dir
from pipeline.registry.patterns import value_regex
from pipeline.registry.sections import Section, Text, accepted_by, one_of
from pipeline.registry.strict_yaml import read_yaml

STRICT = "strict"
"""The profile that says nothing: a benchmark's people are tested on, others go by their hash."""


class SourceInProfile(Section):
    """What holds for a source's people; benchmarks' rules for them do not."""

    split: Text | None = Field(
        default=None, description="The split they are in; without it that of their hash."
    )
    subjects: Annotated[str, accepted_by(value_regex)] | None = Field(
        default=None, description="Regular expression on the whole subject; all without it."
    )
    reason: Text = Field(description="Who says so, and how far it is known.")


class Profile(Section):
    """A published split, as far as it is known by source and subject."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        description="Short name, equal to the file's."
    )
    title: Text = Field(description="Whose split it is.")
    unconfirmed: tuple[Text, ...] = Field(default=(), description="What is not known of it.")
    sources: dict[str, SourceInProfile] = Field(
        default={}, description="Id of a source -> what holds for its people."
    )

    def of(self, name: str) -> SourceInProfile | None:
        """What it says of a `source:subject`; None where it says nothing."""
        source, _, subject = name.partition(":")
        said = self.sources.get(source)
        if said is None or said.subjects is None or value_regex(said.subjects).fullmatch(subject):
            return said
        return None


def load_profile(path_or_id: Path | str) -> Profile:
    """The profile in a YAML file, or the one with this id.

    Raises RegistryError with every fault as `file: field: got X, expected Y`.
    """
    file = _file_of(path_or_id)
    if file is None:
        return Profile(id=STRICT, title="Nobody trains on a benchmark's people")
    try:
        profile = Profile.model_validate(read_yaml(file))
    except ValidationError as error:
        found = [field_fault(item, Profile) for item in error.errors()]
        faults = [f"{fault.field}: got {fault.got}, expected {fault.expected}" for fault in found]
        raise RegistryError([f"{file}: {fault}" for fault in faults]) from error
    if profile.id != file.stem:
        raise RegistryError([f"{file}: id: got {profile.id}, expected {file.stem}"])
    return profile


def _file_of(path_or_id: Path | str) -> Path | None:
    path = Path(path_or_id)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    if str(path_or_id) == STRICT:
        return None
    files = {file.stem: file for file in (registries_dir() / "profiles").glob("*.yaml")}
    if str(path_or_id) not in files:
        known = one_of(str(path_or_id), [STRICT, *files])
        raise RegistryError([f"{path_or_id}: got no such profile, expected a file or {known}"])
    return files[str(path_or_id)]
