"""D3DFACS: FLAME registrations of sequences, in folders called after people and action units."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

PSEUDONYMS = {"Joe": "p14983c8e", "Anna": "pd0cd6c0b"}
FRAMES = {
    "Joe/1+2/1+2_001": "neutral",
    "Joe/1+2/1+2_175": "surprise",
    "Anna/12/12_090": "smile",
}


def build(writing: Writing) -> None:
    writing.unit_mm = 1000.0
    for stem, expression in FRAMES.items():
        subject, unit, name = stem.split("/")
        seen = head(10 + (subject == "Joe"), expression, "template")
        writing.scan(
            f"{stem}.ply",
            seen,
            files.ply(*writing.surface(seen)),
            subject=PSEUDONYMS[subject],
            expression=unit,
            neutral=False,
            frame=int(name[-3:]),
        )
        writing.subjects[PSEUDONYMS[subject]] = {}
    writing.quarantine("Anna/12/4+5_001.ply", "does not fit")
    writing.quarantine("Joe/1+2/1+2_175.obj", "no rule explains")
