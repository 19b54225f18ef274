"""What is refused, or fails on a machine, is one line with status 2; names are shown escaped."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from flows.prefect_server.artifacts import escaped, place, summary_markdown, table_rows
from flows.terminal import boundary, console
from flows.terminal.live_view import live_view
from flows.terminal.progress import Watch
from flows.terminal.watching import watch
from pipeline.build.tally import SourceCount
from pipeline.errors import RegistryError
from pipeline.registry.skeleton import Draft, new_registry
from tests.flows.conftest import Run
from tests.store.random_store import make_store

EVIL = "a\x1b[2J\n\u202e[red]b[bold]`|<b>\x07.obj"
SHOWN = r"a\x1b[2J\n\u202e[red]b[bold]`|<b>\x07.obj"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """All that a terminal of 80 columns gets."""
    file = io.StringIO()
    for name in ("out", "err"):
        monkeypatch.setattr(console, name, Console(file=file, width=80, force_terminal=False))
    return file


def is_safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


PLACES = (
    *("missing", "missing/x", "file", "file/x", "folder", "loop", "dangling", "/proc/x", "x" * 300),
    *("x/" * 3000, "/dev/null", EVIL, "", "s3://KEY:SECRET@bucket/x"),
)
COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "build": lambda p: ("build", p),
    "inspect": lambda p: ("inspect", p),
    "verify": lambda p: ("verify", p),
    "subset": lambda p: ("subset", p, "--where", "True", "--out", "out"),
    "subset out": lambda p: ("subset", "store", "--where", "True", "--out", p),
    "prune": lambda p: ("prune", p, "--keep", "0"),
    "push": lambda p: ("push", p, "s3://b/x"),
    "push to": lambda p: ("push", "store", p),
    "pull": lambda p: ("pull", p, "out"),
    "check": lambda p: ("sources", "check", p),
    "new from": lambda p: ("sources", "new", "mine", "--root", p),
    "new to": lambda p: ("sources", "new", "mine", "--out", f"{p}/mine.yaml" if p else "mine.yaml"),
}
WORKS = {("subset out", p) for p in ("missing", "missing/x", "folder")}
WORKS |= {("new to", "folder"), ("new to", "")}
"""Places that are as good as others."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and what stands in the place of one."""
    folder = tmp_path_factory.mktemp("places")
    make_store(folder / "store", n=4)
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / EVIL).write_text("x")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_places_that_are_no_good(
    command: str, places: Path, facefold_here: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places)
    for path in PLACES:
        if (command, path) in WORKS:
            continue
        run = facefold_here(*COMMANDS[command](path))
        if command == "verify" and run.status == 3:  # a store that has gone is a fault, too
            assert run.stdout.count("\n") == 2 and not run.stderr, (path, run)
        else:
            assert run.status == 2, (path, run)
            assert run.stderr.startswith("facefold: ") and run.stderr.count("\n") == 1, (path, run)
        assert is_safe(run.stdout + run.stderr) and "SECRET@" not in run.stderr, (path, run)


def test_a_bug_shows_its_traceback() -> None:
    def bug() -> None:
        raise ValueError("a bug")

    def odd() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    for run in (bug, odd):
        with pytest.raises((ValueError, OSError)):
            boundary.ended(run)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOENT, "No such file or directory; correct the path"),
        (errno.EROFS, "Read-only file system; name a place that may be written, or allow it"),
        (errno.ENOLCK, "No locks available; its file system gives no locks: name a place on a"),
        (errno.ENOSPC, "No space left on device; make room, or name a place on another disk"),
        (errno.EACCES, "Permission denied; name a place"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    number: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "/a/b\x1b")

    with pytest.raises(SystemExit, match="2"):
        boundary.ended(refused)
    assert capsys.readouterr().err.startswith(rf"facefold: /a/b\x1b: {told}")


def test_each_fault_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise RegistryError([f"{EVIL}: one", "two"])

    with pytest.raises(SystemExit, match="2"):
        boundary.ended(refused)
    assert capsys.readouterr().err == f"facefold: {SHOWN}: one\ntwo\n"


def test_locks_that_a_file_system_does_not_give(
    places: Path, facefold_here: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = places / "store"

    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    run = facefold_here("prune", store, "--keep", 0)
    assert run.status == 2 and "Traceback" not in run.stderr
    told = f"facefold: {store}/.publishing: this file system has no file locks"
    assert run.stderr.startswith(told) and run.stderr.count("\n") == 1


def test_a_head_of_five_thousand_letters(tmp_path: Path, facefold_here: Callable[..., Run]) -> None:
    make_store(tmp_path / "store", n=4)
    for head in ("a" * 5000, "\x1b[2J", "../../etc", "\n"):
        (tmp_path / "store" / "HEAD").write_text(head)
        run = facefold_here("inspect", "store")
        assert run.status == 2 and len(run.stderr) < 400 and is_safe(run.stderr)
        assert "store/HEAD: " in run.stderr
        assert run.stderr.count("\n") == 1 and "name one" in run.stderr


def test_a_folder_of_something_else_is_no_store(
    tmp_path: Path, facefold_here: Callable[..., Run]
) -> None:
    make_store(tmp_path / "store", n=4)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    run = facefold_here("subset", "store", "--where", "True", "--out", "home")
    assert run.status == 2
    assert "home: holds what belongs to no store ('thesis.tex'); name an empty" in run.stderr
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_tables_and_lines_show_names_escaped(screen: io.StringIO) -> None:
    console.note(EVIL)
    console.plain(EVIL)
    console.mapping_table(EVIL, {EVIL: {"x": EVIL, "list": [EVIL, {EVIL: EVIL}]}})
    console.out.print(console.rows_table(EVIL, [{"name": EVIL, "n": 1}]))
    quarantine = [{"scan_id": EVIL, "stage": "read", "reason": EVIL}]
    console.summary_table({"sources": [], "quarantine": quarantine, "store": EVIL})
    assert is_safe(screen.getvalue())
    assert screen.getvalue().count(SHOWN) > 8


def test_progress_shows_names_escaped() -> None:
    file = io.StringIO()
    terminal = Console(file=file, width=200)
    with watch([SourceCount(EVIL, 2, 0)], console=terminal) as seen:
        seen.phase("registering", 2)
        seen.retried(EVIL, EVIL)
    seen = Watch([SourceCount(EVIL, 2, 0)])
    seen.batch(EVIL, 1, {EVIL: 1}, {"read": 1.0}, {"read": 1.0})
    terminal.print(live_view(seen, 40))
    assert is_safe(file.getvalue()) and r"a\x1b[2J" in file.getvalue()


def test_registrations_are_named_by_their_stems(screen: io.StringIO) -> None:
    folder = "/a/very/long/folder/that/all/scans/are/in/and/that/fills/a/line/of/eighty"
    quality = {"scan_to_mesh_mm": {"face": {"median": 0.123}}}
    done = {"status": "converged", "unit": "mm", "quality": quality, "reason": ""}
    failed = {"status": "failed", "unit": "auto", "quality": None, "mesh": None}
    console.registration_table(
        [
            {"scan": f"{folder}/anna_01_neutral.obj", "mesh": "out/anna_01_neutral.ply", **done},
            {"scan": f"{folder}/ben_02_smile.obj", "reason": "holds no vertices", **failed},
        ]
    )
    text = screen.getvalue()
    for word in ("anna_01_neutral", "ben_02_smile", "0.12", "holds no vertices", "meshes in out"):
        assert word in text
    assert "/a/very" not in text and "…" not in text


def test_pages_show_names_escaped() -> None:
    shown = escaped(EVIL)
    assert is_safe(shown) and "<b>" not in shown
    assert r"\[red\]" in shown and r"\|" in shown and r"\`" in shown
    assert escaped("# [x](http://e) ![y](z) **b**") == (
        r"\# \[x\]\(http\://e\) \!\[y\]\(z\) \*\*b\*\*"
    )
    assert table_rows([{"name": EVIL, "n": 1}]) == [{"name": SHOWN, "n": 1}]
    assert place("http://host/x") == "[http://host/x](http://host/x)"
    assert place("http://host/x) ![a](b") == "`http://host/x) ![a](b`"
    assert place("a`b``c") == "``` a`b``c ```"
    report = {"phases_s": {EVIL: 1.0}, "stages": {}, "memory_bytes": {}}
    page = summary_markdown({"store": EVIL, "word": EVIL}, report, {EVIL: EVIL})
    assert is_safe(page) and "\n| word | " in page and page.count("[red]") == 2  # in code spans


def test_drafts_hold_names_escaped() -> None:
    draft = Draft(
        include=(EVIL,), name=f"(?P<subject>{EVIL})", notes={"": [f"{EVIL}\nmetric: true"]}
    )
    assert is_safe(new_registry("mine", draft))
