"""The source files `registries/<id>.yaml`: one a source, strict, every fault reported at once."""

from pipeline.registry.load import (
    list_registries,
    load_registry,
    public_name,
    registries_dir,
    registry_files,
)
from pipeline.registry.profiles import Profile, load_profile
from pipeline.registry.schema import registry_schema, registry_schema_text
from pipeline.registry.sections import Axes, Landmarks, Limits
from pipeline.registry.skeleton import new_registry
from pipeline.registry.source import SourceRegistry
from pipeline.registry.strict_yaml import read_yaml

__all__ = [
    "Axes",
    "Landmarks",
    "Limits",
    "Profile",
    "SourceRegistry",
    "list_registries",
    "load_profile",
    "load_registry",
    "new_registry",
    "public_name",
    "read_yaml",
    "registries_dir",
    "registry_files",
    "registry_schema",
    "registry_schema_text",
]
