"""Landmark files: one reader a format (`readers`), and what their points mean (`schemes`).

To add a format, write `<format>.py` beside the others and a line of LANDMARK_READERS in
`readers.py`. Needs numpy only.
"""

from pipeline.landmarks.readers import (
    LANDMARK_READERS,
    landmark_format_of,
    read_landmarks,
    resolve,
)

__all__ = ["LANDMARK_READERS", "landmark_format_of", "read_landmarks", "resolve"]
