"""Sequences of FLAME registrations in metres, as CoMA and VOCASET have them."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

PEOPLE = ("FaceTalk_170725_00137_TA", "FaceTalk_170904_03276_TA")


def sequences(writing: Writing, *names: str, kind: str = "") -> None:
    """Two frames of each sequence of two people, who are those of CoMA and VOCASET alike."""
    writing.unit_mm = 1000.0
    for i, subject in enumerate(PEOPLE):
        for name in names:
            for frame, expression in (("000001", "neutral"), ("000042", "open")):
                seen = head(44 + i, expression, "template")
                writing.scan(
                    f"{subject}/{name}/{name}.{frame}.ply",
                    seen,
                    files.ply(*writing.surface(seen)),
                    subject=subject,
                    expression=name,
                    neutral=False,
                    expression_class=kind,
                    frame=int(frame),
                )
        writing.subjects[subject] = {}
