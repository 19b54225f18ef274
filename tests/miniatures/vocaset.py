"""VOCASET: sequences of speech, with sound."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head
from tests.miniatures.sequences import PEOPLE, sequences


def build(writing: Writing) -> None:
    sequences(writing, "sentence01", kind="speech")
    for i, subject in enumerate(PEOPLE):
        seen = head(44 + i, kind="template")
        at = f"templates/{subject}.ply"
        writing.scan(at, seen, files.ply(*writing.surface(seen)), subject=subject)
    writing.companion(f"{PEOPLE[0]}/sentence01.wav")
    writing.quarantine(f"{PEOPLE[0]}/sentence01/sentence02.000001.ply", "does not fit")
    writing.quarantine("data_verts.npy", "no rule explains")
