"""The published dataset: a plain Zarr v3 group with parquet tables beside it.

Write: `create_staging`, `write_shard`, `publish`. Read: `open_store`. Check: `verify`,
`inspect_store`. Names load on first use, so that importing one module stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.store.attached_files import attach as attach
    from pipeline.store.attaching import with_fields as with_fields
    from pipeline.store.checks.verification import verify as verify
    from pipeline.store.exporting import export as export
    from pipeline.store.head import current_version as current_version
    from pipeline.store.inspection import inspect_store as inspect_store
    from pipeline.store.linking import link_shards as link_shards
    from pipeline.store.pruning import prune as prune
    from pipeline.store.publishing import publish as publish
    from pipeline.store.reader import Store as Store
    from pipeline.store.reader import open_store as open_store
    from pipeline.store.remote.transfer import pull as pull
    from pipeline.store.remote.transfer import push as push
    from pipeline.store.rows import manifest_row as manifest_row
    from pipeline.store.rows import row_fields as row_fields
    from pipeline.store.rows import stack_rows as stack_rows
    from pipeline.store.schema import ModelTag as ModelTag
    from pipeline.store.schema import fields as fields
    from pipeline.store.staging import check_model as check_model
    from pipeline.store.staging import create_staging as create_staging
    from pipeline.store.staging import sweep as sweep
    from pipeline.store.subsets import subset as subset
    from pipeline.store.writer import write_shard as write_shard

_HOME = {
    "attach": "attached_files",
    "with_fields": "attaching",
    "current_version": "head",
    "export": "exporting",
    "inspect_store": "inspection",
    "link_shards": "linking",
    "sweep": "staging",
    "prune": "pruning",
    "publish": "publishing",
    "Store": "reader",
    "open_store": "reader",
    "manifest_row": "rows",
    "row_fields": "rows",
    "stack_rows": "rows",
    "subset": "subsets",
    "ModelTag": "schema",
    "fields": "schema",
    "pull": "remote.transfer",
    "push": "remote.transfer",
    "verify": "checks.verification",
    "check_model": "staging",
    "create_staging": "staging",
    "write_shard": "writer",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
