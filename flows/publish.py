"""A store sent to an object store, by a schedule or a button: verify, push, verify."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.verify import check
from pipeline.store import push
from pipeline.store.remote.objects import Place


@flow(name="publish", persist_result=False)
def publish(store: str, url: str) -> str:
    """Publishes the version that a folder holds below `url`, sound on both sides; returns its URL.

    StoreError where either has faults, or where `push` refuses.
    """
    Place(url)  # refuses keys in it before anything is named after it
    check(store)
    version = send(store, url)
    check(url)
    return version


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="push to {url}")
def send(store: str, url: str) -> str:
    """`facefold push`; what a push that was broken off sent is not sent again."""
    return push(store, url)
