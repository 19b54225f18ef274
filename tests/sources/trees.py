"""Made-up folders of scans whose people are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

FIRST = ("Rig", "Anna", "Ben", "Old Rig", "Mary Ann", "Lab", "Éva")
LAST = ("C", "E", "Smith", "Lee", "Doe", "F", "Novak", "Šimon")
EXPRESSIONS = ("neutral", "smile", "anger", "mouth_open", "surprise")
ROLES = (
    ("subjects", "registrations"),
    ("scans", "meshes"),
    ("raw", "registered"),
    ("source", "target"),
    ("raw_scans", "fitted_meshes", "templates"),
    ("train", "test"),
)


def people(random: Random, n: int) -> list[str]:
    """Names of `n` people in one style."""
    separator = random.choice(["  ", " ", "_", "-", " - "])
    numbers = random.sample(range(1, 900), n)
    pairs = [f"{first}{separator}{last}" for first in FIRST for last in LAST]
    styles: list[Callable[[], list[str]]] = [
        lambda: [f"p{number:03}" for number in numbers],
        lambda: [f"{number:05}" for number in numbers],
        lambda: [f"subject_{number}" for number in numbers],
        lambda: [f"{random.getrandbits(64):016x}" for _ in numbers],
        lambda: random.sample(["anna", "ben", "carl", "dora", "emil", "fay", "gus", "hal"], n),
        lambda: random.sample(pairs, n),
        lambda: random.sample([pair.lower() for pair in pairs], n),
    ]
    return random.choice(styles)()


def tree(seed: int) -> Mapping[str, str]:
    """Path of a scan -> its person."""
    random = Random(seed)
    names = people(random, random.randint(3, 8))
    whole = all(name.isalnum() or name.startswith("subject") for name in names)
    some = random.sample(EXPRESSIONS, random.randint(2, 4))
    roles = random.choice(ROLES)
    frames = [f"{frame:04}" for frame in range(random.randint(2, 5))]
    layouts: list[Callable[[str], list[str]]] = [
        lambda p: [f"{p}/{e}.ply" for e in some],
        lambda p: [f"data/{p}/{e}/{e}.{f}.ply" for e in some for f in frames],
        lambda p: [f"{p}/scan_{f}.ply" for f in frames],
        lambda p: [f"{p}/{p}_{e}.ply" for e in some],
        lambda p: [f"{r}/{p}{'' if whole else '/scan'}.ply" for r in roles],
        lambda p: [f"{r}/{p}/{e}.ply" for r in roles for e in some],
        lambda p: [f"{p}/{r}/{e}.ply" for r in roles for e in some],
        lambda p: [f"{p}/{e}_{r}.ply" for r in roles for e in some],
        lambda p: [f"session{s}/{p}/{e}.ply" for s in (1, 2) for e in some],
        lambda p: [f"{p}/2021{m:02}05/{e}.ply" for m in (1, 7) for e in some],
    ]
    layout = random.choice(layouts)
    found = {path: name for name in names for path in layout(name)}
    if layout in layouts[4:5] and random.random() < 0.5:
        found["atlas/atlas.ply"] = "atlas"
    return found
