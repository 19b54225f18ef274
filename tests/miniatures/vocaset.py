"""VOCASET: sequences of speech, with sound."""

from __future__ import annotations

from tests.miniatures.folder import Writing
from tests.miniatures.sequences import PEOPLE, sequences


def build(writing: Writing) -> None:
    sequences(writing, "sentence01")
    writing.companion(f"{PEOPLE[0]}/sentence01.wav")
    writing.quarantine(f"{PEOPLE[0]}/sentence01/sentence02.000001.ply", "does not fit")
    writing.quarantine("data_verts.npy", "no rule explains")
