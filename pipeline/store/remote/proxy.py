"""Requests of a process that was forked from one that has made some: another process makes them.

obstore's threads do not survive a fork.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.remote.requests import answer, client_of

_forked = False
"""This process is a fork of one that has made requests, perhaps."""
_proxy: _Proxy | None = None
_making_proxy = threading.Lock()


def is_needed() -> bool:
    return _forked


def ask(url: str, request: str, *arguments: Any) -> Any:
    """`requests.answer` by the other process."""
    return _this_proxy().ask(url, request, *arguments)


def _note_fork() -> None:
    global _forked, _proxy, _making_proxy
    _forked = _forked or "obstore" in sys.modules
    _proxy, _making_proxy = None, threading.Lock()  # the parent's are its own


os.register_at_fork(after_in_child=_note_fork)


def _this_proxy() -> _Proxy:
    global _proxy
    with _making_proxy:
        _proxy = _proxy or _Proxy()
        return _proxy


class _Proxy:
    """A process that makes requests for this one, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.store.remote import proxy; proxy.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            start_new_session=True,  # an interrupt is for this process
        )

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            try:
                pickle.dump(request, self._process.stdin)
                self._process.stdin.flush()
                answered = pickle.load(self._process.stdout)
            except (EOFError, BrokenPipeError) as error:
                raise StoreError(
                    f"{request[0]}: the process that reads it has ended; start the worker again"
                ) from error
        if isinstance(answered, StoreError):
            raise answered
        return answered


def serve() -> None:
    """Answer the requests of a `_Proxy` until it closes the pipe."""
    client = lru_cache(client_of)
    with suppress(EOFError, BrokenPipeError):
        while True:
            url, request, *arguments = pickle.load(sys.stdin.buffer)
            try:
                answered = answer(client(url), url, request, *arguments)
            except StoreError as error:
                answered = error
            pickle.dump(answered, sys.stdout.buffer)
            sys.stdout.buffer.flush()
