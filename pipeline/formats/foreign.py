"""What a file is if it is not what its name says: stand-ins for the real file, other formats."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import FormatError
from pipeline.refusals import Code

UNPACK = "unpack it first"
OWN_FORMAT = "name the format that it has"
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive", UNPACK),
    (b"\x1f\x8b\x08", "gzip data", UNPACK),
    (b"BZh", "bzip2 data", UNPACK),
    (b"\xfd7zXZ\0", "xz data", UNPACK),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x89PNG\r\n", "a PNG image", OWN_FORMAT),
    (b"\xff\xd8\xff", "a JPEG image", OWN_FORMAT),
    (b"%PDF", "a PDF document", OWN_FORMAT),
    (b"ply\n", "a PLY file", OWN_FORMAT),
    (b"ply\r", "a PLY file", OWN_FORMAT),
    (b"glTF", "a binary glTF file", OWN_FORMAT),
    (b"#VRML", "a VRML file", OWN_FORMAT),
    (b"# vtk DataFile", "a VTK file", OWN_FORMAT),
    (b"# .PCD", "a PCD file", OWN_FORMAT),
    (b"\x93NUMPY", "a numpy array", OWN_FORMAT),
    (b"MATLAB 5.0", "a MATLAB file", OWN_FORMAT),
    (b"\x89HDF\r\n", "an HDF5 file", OWN_FORMAT),
    (b"Kaydara FBX", "an FBX file", "convert it to PLY, OBJ or glTF"),
)
"""First bytes, what has them, and the remedy."""
TAR_MARK, TAR_AT = b"ustar", 257
LFS = b"version https://git-lfs"
HTML = re.compile(
    rb"\s*(<\?xml[^>]*>\s*)?(<!--[^>]*-->\s*)?<(!doctype\s+html|html)\b", re.IGNORECASE
)
HEAD = 1024
"""Bytes that suffice to know a file by."""


def refuse_stand_in(path: Path, head: bytes) -> None:
    """Raises FormatError if the first bytes are those of what was delivered in the file's place."""
    if head.startswith(LFS):
        fault, remedy = "a Git LFS pointer, not the file itself", "run `git lfs pull`"
    elif HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        fault = "a web page, not the file itself"
        remedy = "log in or accept the terms on the download page, then download it again"
    else:
        return
    raise FormatError(path, fault, remedy, Code.NOT_THIS_FORMAT)


def foreign(data: bytes) -> tuple[str, str] | None:
    """What other content it is, and the remedy; None if it is not known."""
    for start, what, remedy in SIGNATURES:
        if data.startswith(start):
            return what, remedy
    if data[TAR_AT : TAR_AT + len(TAR_MARK)] == TAR_MARK:
        return "a tar archive", UNPACK
    if any(is_text_beside_zeros(data[:200], at) for at in (0, 1)):
        return "UTF-16 text without a byte order mark", "save it as UTF-8"
    return None


def is_text_beside_zeros(some: bytes, at: int) -> bool:
    """Whether every second byte from `at` is ASCII and the others are zero."""
    letters = some[at::2]
    return len(letters) > 3 and not any(some[1 - at :: 2]) and all(8 < x < 127 for x in letters)


def not_this_format(
    path: Path, data: bytes, fault: str, remedy: str = "check the format"
) -> FormatError:
    """The error for content that is not of the format; it says what the content is, if known."""
    known = foreign(data)
    if known is not None:
        fault, remedy = f"it is {known[0]}: {fault}", known[1]
    return FormatError(path, fault, remedy, Code.NOT_THIS_FORMAT)
