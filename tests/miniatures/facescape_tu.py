"""FaceScape TU: one topology, one list of landmark vertices, everybody's eyes as far apart."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, model

MODELS = {
    ("1", "1_neutral"): "neutral",
    ("1", "2_smile"): "smile",
    ("360", "1_neutral"): "neutral",
}
PEOPLE = {"1": ("m", "23", "male"), "360": ("f", "-", "female")}
EYES_MM = 92.0
"""What the outer corners are apart in every neutral model."""


def build(writing: Writing) -> None:
    for (subject, stem), expression in MODELS.items():
        name = stem.split("_", 1)[1]
        person = 36 + (subject == "360")
        right, left = head(person, "neutral", "template").landmarks_mm[[36, 45]]
        seen = head(person, expression, "template").scaled(EYES_MM / np.linalg.norm(right - left))
        at = f"{subject}/models_reg/{stem}"
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{stem}.obj.mtl"),
            subject=subject,
            expression=name,
            neutral=name == "neutral",
            landmarks="landmark_indices.txt",
            expression_class="" if name == "neutral" else name,
        )
        writing.companion(f"{at}.obj.mtl", files.material(f"{stem}.jpg"))
        writing.companion(f"{at}.jpg", files.photo)
        writing.companion(f"{subject}/dpmap/{stem}.png", files.photo)
        _, age, sex = PEOPLE[subject]
        writing.subjects[subject] = {"sex": sex, "age": "" if age == "-" else age}
    embedding = model().landmarks
    assert embedding is not None
    corner = embedding.barycentric.argmax(axis=1)
    indices = np.zeros((68, 1), np.int64)
    indices[embedding.indices_68, 0] = model().faces[embedding.triangles, corner]
    writing.companion("landmark_indices.txt", files.rows("%d", indices))
    rows = "".join(f"{i} {sex} {age} 11111\n" for i, (sex, age, _) in PEOPLE.items())
    writing.companion("info_list_v2.txt", files.text(rows))
    writing.companion("publishable_list_v1.txt", files.text("1, 360\n"))
    writing.quarantine("1/models_reg/neutral.obj", "does not fit")
    writing.quarantine("1/README.pdf", "no rule explains")
