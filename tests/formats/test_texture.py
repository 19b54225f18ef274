"""Names in a scan reach files in its own folder and below, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.formats.texture import beside, material_images


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan with images in its folder, below and beside it, and links to the last."""
    folder = tmp_path / "scans"
    (folder / "maps").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("scans/skin.png", "scans/maps/low.png", "elsewhere/secret.png"):
        (tmp_path / name).touch()
    (folder / "link.png").symlink_to("skin.png")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere/secret.png")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "loop.png").symlink_to("loop.png")
    return folder / "scan.obj"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("skin.png", "skin.png"),
        (r"maps\low.png", "maps/low.png"),
        ("C:/scans/skin.png", "skin.png"),
        ("/mnt/capture/skin.png", "skin.png"),
        ("../textures/skin.png", "skin.png"),
        ("link.png", "link.png"),
        ("../elsewhere/secret.png", None),
        ("out.png", None),
        ("out/secret.png", None),
        ("maps/../../elsewhere/secret.png", None),
        ("loop.png", None),
        ("maps", None),
        ("/etc/passwd", None),
        ("..", None),
        ("", None),
        ("a" * 5000, None),
        ("skin\0.png", None),
    ],
)
def test_beside(scan: Path, name: str, found: str | None) -> None:
    assert beside(scan, name) == (None if found is None else scan.parent / found)


def test_a_folder_that_is_itself_a_link(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "delivery").symlink_to(scan.parent)
    linked = tmp_path / "delivery" / "scan.obj"
    assert beside(linked, "skin.png") == tmp_path / "delivery" / "skin.png"
    assert beside(linked, "out.png") is None


def test_only_the_start_of_a_long_library_is_read(scan: Path) -> None:
    rows = "map_Kd skin.png\n" + "# nothing\n" * 200_000 + "map_Kd late.png\n"
    scan.with_suffix(".mtl").write_text(rows)
    assert material_images(scan, []) == {"": ["skin.png", "skin.png"]}
