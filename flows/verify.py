"""A store checked on a schedule: `facefold verify` as a flow, which fails where it finds faults."""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.prefect_server.artifacts import escaped, table_rows
from pipeline.errors import StoreError
from pipeline.store import verify as faults_of

TOLD = 5
"""As many faults are in the reason of the failed run; the artifact lists them all."""


@flow(name="verify", persist_result=False)
def verify(store: str) -> None:
    """Reads every byte of a store, a folder or a URL; StoreError where it has faults."""
    check(store)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="verify {store}")
def check(store: str) -> None:
    """Writes the table of a store's faults, and raises StoreError where it has any."""
    faults = faults_of(store)
    told = f"{store}: {len(faults)} fault{'s' * (len(faults) > 1)}" if faults else f"{store}: sound"
    rows = table_rows([{"fault": fault} for fault in faults])
    create_table_artifact(rows, key="verify", description=escaped(told))
    if faults:
        more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise StoreError(f"{told}: {'; '.join(faults[:TOLD])}{more}; restore it or build it again")
