"""CoMA: sequences of extreme expressions."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.sequences import PEOPLE, sequences


def build(writing: Writing) -> None:
    sequences(writing, "bareteeth", "mouth_open")
    writing.companion("imagesubject1/bareteeth/bareteeth.000001.26_C.jpg", files.photo)
    writing.quarantine(f"{PEOPLE[0]}/bareteeth/frame.ply", "does not fit")
    writing.quarantine("preprocessed_data.npy", "no rule explains")
