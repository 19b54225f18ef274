"""Damaged and hostile files of every format, the same for the same seed.

A `Target` is one reader with whole files of its format; `mutated` spoils one of them. Formats that
pack their content (gzip, ZIP, PNG chunks) are also spoilt inside and packed anew: checksums would
otherwise stop nearly every mutation at the door.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import resource
import signal
import struct
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "landmarks")]
import scan_writers
import scipy.io
import test_gltf
import test_landmark_contract as landmark_writers
import test_pcd
import test_ply

from pipeline.errors import FormatError, RegistryError
from pipeline.formats import READERS, read_scan
from pipeline.formats.content import GZIP_SPARE
from pipeline.landmarks import LANDMARK_READERS, read_landmarks
from pipeline.registry import SourceRegistry, load_registry, registries_dir

Random = random.Random
OUTSIDE = "outside"
"""The folder beside the scan's own that no reader may look into."""
LIBRARY = b"newmtl face\nmap_Kd -s 1 1 1 scan.png\n"
LINK = b"a link that leads out of the folder"
MEMORY_BYTES = 200 << 20
HANG_SECONDS = 20
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    name: str
    file_name: str
    read: Callable[[Path], Any]
    wholes: tuple[bytes, ...]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    refusal: type[Exception] = FormatError
    share: float = 1.0
    """Of the inputs of the others: YAML takes long to parse."""


def targets() -> list[Target]:
    """Every registered reader, and the reader of registries."""
    vertices, faces = scan_writers.surface()
    _, binary = scan_writers.gltf_document(vertices, faces)
    found = []
    for form in READERS:
        kin = {name for name in dir(scan_writers) if name.startswith(f"{form}_") and name != "obj"}
        writers = [scan_writers.WRITERS[form]]
        writers += [getattr(scan_writers, name) for name in sorted(kin & OTHER_WRITERS)]
        options = scan_writers.OPTIONS.get(form, {})
        beside = {}
        if form in scan_writers.BESIDE:
            name, write = scan_writers.BESIDE[form]
            beside[name] = write(vertices, faces)
        beside |= {"obj": {"scan.mtl": LIBRARY}, "gltf": {"scan.bin": binary}}.get(form, {})
        wholes = [write(vertices, faces) for write in writers]
        wholes += [make(vertices, faces) for make in RICHER.get(form, ())]
        read = partial(read_scan, format=form, **options)
        found.append(Target(form, f"scan.{form}", read, tuple(wholes), beside))
    for form in LANDMARK_READERS:
        whole = landmark_writers.WRITERS[form](landmark_writers.points_for(form))
        photo = {"scan.png": scan_writers.png(vertices, faces)}
        read = partial(read_landmarks, format=form)
        found.append(Target(f"landmarks {form}", f"scan.{form}", read, (whole,), photo))
    registries = sorted(registries_dir().glob("*.yaml"))
    wholes = tuple(renamed(file.read_bytes()) for file in registries)
    found.append(
        Target("registry", "lab.yaml", load_registry, wholes, refusal=RegistryError, share=0.1)
    )
    return found


def renamed(registry: bytes) -> bytes:
    """With the id that the file's name demands."""
    return re.sub(rb"^id: .*", b"id: lab", registry, count=1, flags=re.MULTILINE)


def rich_obj(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """With a material, texture seams, polygons, negative indices and a continued row."""
    rows = ["mtllib scan.mtl"]
    rows += [f"v {x!r} {y!r} {z!r} 0.1 0.2 0.9" for x, y, z in vertices.tolist()]
    rows += ["vt 0.5 0.5", "vn 0 0 1", "usemtl face"]
    rows += [f"f {a}/1/1 {b}//1 {c}/1" for a, b, c in (faces[:-2] + 1).tolist()]
    return "\n".join([*rows, "f -1 -2 \\", " -7 -6", ""]).encode()


def rich_ply(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """With strips, colours, a texture and an element no one knows."""
    header = (
        "ply\nformat binary_big_endian 1.0\ncomment TextureFile scan.png\n"
        f"element camera 1\nproperty list uchar short pose\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\nproperty uchar red\n"
        "property uchar green\nproperty uchar blue\nelement tristrips 2\n"
        "property list int int vertex_indices\nend_header\n"
    )
    body = struct.pack(">B2h", 2, 7, 9)
    body += b"".join(struct.pack(">3d3B", *row, 9, 99, 199) for row in vertices.tolist())
    strip = [0, 5, 1, 6, 2, -1, 10, 15, 11]
    body += struct.pack(f">i{len(strip)}i", len(strip), *strip) + struct.pack(">i3i", 3, 1, 2, 7)
    return header.encode() + body


def textured_ply(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Of two images, with the texture coordinates of each corner."""
    rows = [(face, [0.25] * 6, i % 2) for i, face in enumerate((faces % 4).tolist())]
    return test_ply.faces_with_uv(rows)


def rich_wrl(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    image = b'appearance Appearance { texture ImageTexture { url "scan.png" } }\n geometry'
    content = scan_writers.wrl(vertices, faces).replace(b"geometry", image, 1)
    corners = b"texCoordIndex [ " + b"0 1 2 -1 " * len(faces) + b"]\n  coordIndex"
    uv = b"texCoord TextureCoordinate { point [ 0 0, 1 0, 1 1 ] }\n  " + corners
    return content.replace(b"coordIndex", uv, 1)


def draco_glb(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    return scan_writers.glb_file(*test_gltf.draco(faces))


def textured_glb(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """In two primitives, with an image inside."""
    materials = [test_gltf.shows(0), test_gltf.shows(1)]
    images = [{"bufferView": 3}, {"uri": "data:image/png;base64,YW4gaW1hZ2U="}]
    return scan_writers.glb_file(*test_gltf.textured(Path(), materials, images))


def rich_gltf(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """With a buffer and an image beside it."""
    document, _ = scan_writers.gltf_document(vertices, faces)
    document["buffers"][0]["uri"] = "scan.bin"
    texture = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    document |= {"materials": [texture], "textures": [{"source": 0}]}
    document |= {"images": [{"uri": "scan.png"}]}
    return json.dumps(document).encode()


def lzf_pcd(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    head = scan_writers.pcd_head(len(vertices), "binary_compressed")
    return test_pcd.compressed(head, vertices.T.tobytes())


def packed_mat(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(
        buffer, {"shape": {"vertices": vertices, "faces": faces + 1}}, do_compression=True
    )
    return buffer.getvalue()


def packed_npz(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    colours = np.full((len(vertices), 3), 9, np.uint8)
    np.savez_compressed(buffer, vertices=vertices, faces=faces, colours=colours)
    return buffer.getvalue()


OTHER_WRITERS = {"ply_ascii", "stl_ascii", "vtk_ascii", "pcd_ascii"}
RICHER: dict[str, tuple[Callable[[np.ndarray, np.ndarray], bytes], ...]] = {
    "obj": (rich_obj,),
    "ply": (rich_ply, textured_ply),
    "wrl": (rich_wrl,),
    "glb": (draco_glb, textured_glb),
    "gltf": (rich_gltf,),
    "pcd": (lzf_pcd,),
    "mat": (packed_mat,),
    "npz": (packed_npz,),
}


# spoiling


def mutated(target: Target, seed: int) -> dict[str, bytes]:
    """File name → content: the file `target.file_name`, spoilt, and those beside it.

    The first seeds are the bombs, one each.
    """
    rng = Random(f"{target.name} {seed}")
    whole = rng.choice(target.wholes)
    files = dict(target.beside)
    kind = rng.random()
    bombs = (*OWN_BOMBS.get(target.name, ()), *BOMBS)
    if seed < len(bombs):
        content = bombs[seed](whole)
    elif kind < 0.05:
        content = hostile_names(rng, whole)
        files = {name: hostile_names(rng, old) for name, old in files.items()}
    elif kind < 0.07:
        content = rng.choice(STRANGERS)
    elif kind < 0.6 and (packing := packing_of(whole)) is not None:
        content = packing(rng, whole)
    elif kind < 0.75:
        content = rng.choice(HABITS)(rng, whole)
        content = spoilt(rng, content) if rng.random() < 0.5 else content
    else:
        content = spoilt(rng, whole)
    if rng.random() < 0.05:
        name = rng.choice(["scan.png", *sorted(files)])
        files[name] = LINK if rng.random() < 0.3 else spoilt(rng, files.get(name, b"\x89PNG"))
    return files | {target.file_name: content}


def spoilt(rng: Random, content: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(SPOILERS)(rng, content)
    return content


def cut(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def flip_bits(rng: Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        data[place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def place(rng: Random, data: bytes | bytearray) -> int:
    """Anywhere, but every other time near the start, where headers are."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 200)
    return rng.randrange(end) if end else 0


def drop(rng: Random, content: bytes) -> bytes:
    a = place(rng, content)
    return content[:a] + content[a + rng.choice((1, 2, 4, 8, 100, 1000)) :]


def repeat(rng: Random, content: bytes) -> bytes:
    a, n = place(rng, content), rng.choice((1, 2, 8, 100, 1000))
    return content[:a] + content[a : a + n] * rng.choice((2, 3, 50)) + content[a + n :]


def insert(rng: Random, content: bytes) -> bytes:
    a = place(rng, content)
    return content[:a] + rng.choice((rng.randbytes(rng.randrange(1, 20)), *WORDS)) + content[a:]


def swap(rng: Random, content: bytes) -> bytes:
    a, b, c = sorted(place(rng, content) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def other_number(rng: Random, content: bytes) -> bytes:
    """One number of a text replaced by one that is huge, negative, not finite or none."""
    near = content if rng.random() < 0.6 else content[:400]
    found = list(re.finditer(rb"-?\d[\d.eE+-]*", near[:20_000]))
    if not found:
        return insert(rng, content)
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(NUMBERS) + content[match.end() :]


def other_integer(rng: Random, content: bytes) -> bytes:
    """Some bytes of a binary file replaced by a huge or negative integer, NaN or infinity."""
    kind = rng.choice(("<H", "<I", ">I", "<Q", ">Q", "<f", "<d", ">d", ">H"))
    value: float = rng.choice((float("nan"), float("inf"), 1e300 if kind[1] == "d" else 1e30))
    if kind[1] in "HIQ":
        bits = 8 * struct.calcsize(kind)
        value = rng.choice((0, 1, 1 << (bits - 1), (1 << bits) - 1, (1 << bits - 1) - 1, 1 << 14))
    a, data = place(rng, content), struct.pack(kind, value)
    return content[:a] + data + content[a + len(data) :]


def other_word(rng: Random, content: bytes) -> bytes:
    """A word of the header replaced by another word of the file."""
    found = list(re.finditer(rb"[^\s{}\[\]<>=\"',:]+", content[:2000]))
    if len(found) < 2:
        return flip_bits(rng, content)
    a, b = rng.choice(found), rng.choice(found)
    return content[: a.start()] + b[0] + content[a.end() :]


SPOILERS = (
    cut,
    flip_bits,
    drop,
    repeat,
    insert,
    swap,
    other_number,
    other_number,
    other_integer,
    other_integer,
    other_word,
)
NUMBERS = [
    *(
        b"-1",
        b"0",
        b"1",
        b"-0.0",
        b"3",
        b"255",
        b"65536",
        b"2147483647",
        b"2147483648",
        b"-2147483648",
    ),
    *(b"4294967295", b"9223372036854775807", b"9223372036854775808", b"99999999999999999999999"),
    *(
        b"1000000",
        b"999999999",
        b"nan",
        b"NaN",
        b"inf",
        b"-inf",
        b"1e400",
        b"1e39",
        b"1e-400",
        b"1.5",
    ),
    *(b"", b"1_000", b"0x10", b"1-2", b"--1", b"1/0", b".", b"1e", "٣".encode(), b"9" * 5000, b"-"),
]
WORDS = [
    *(b"\0", b"\n", b"\r", b"\n\n\n", b"\\\n", b"#", b'"', b"'", b"{" * 99, b"[" * 99, b"]", b"}"),
    *(
        b"<!--",
        b"<a>" * 99,
        b"&amp;",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"/" * 50,
        b"-" * 99,
        b"," * 50,
    ),
    *(b"f 1 2 3\n", b"v 1 2 3\n", b"\x1a", b"\xe2\x80\xa8", b"\x0b", b" " * 999, b"null", b"true"),
]
STRANGERS = [
    *(b"\x89PNG\r\n\x1a\n" + bytes(64), b"\x1f\x8b\x08" + bytes(64), b"PK\x03\x04" + bytes(64)),
    *(
        b"<?xml version='1.0'?><a/>",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b"\0",
        b"\n",
        b"ply\n",
        b"#VRML V2.0",
    ),
    *(b"OFF", b"glTF" + bytes(64), b"\x93NUMPY" + bytes(64), b"%PDF-1.7", b"\x7fELF" + bytes(99)),
    *(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        b"<!DOCTYPE html>\n<html><body>log in</body></html>",
        b"\x1f\x8b\x08",
        b"\xff\xfe",
        b"\xfe\xff\xd8",
    ),
    *(
        b"PK\x05\x06" + bytes(18),
        b"MATLAB 5.0 MAT-file" + bytes(300),
        b"# vtk DataFile Version 5.1\n",
    ),
]


# what other programs, locales and people do to a file


def packed(rng: Random, content: bytes) -> bytes:
    data = gzip.compress(content, 1)
    return data + rng.randbytes(9) if rng.random() < 0.2 else data


def in_utf_16(rng: Random, content: bytes) -> bytes:
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-16-be"))
    return content.decode("latin-1").encode(encoding)


def other_line_ends(rng: Random, content: bytes) -> bytes:
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b" \t\n")))


def at_line_ends(rng: Random, content: bytes) -> bytes:
    """Every line, or some, with more at its end."""
    lines, share = content.split(b"\n"), rng.choice((0.02, 0.5, 1.0))
    more = rng.choice((b" 0.5", b" # note", b"\\", b" 1 2 3", b" nan", b" //", b" 3 0 1 2", b","))
    return b"\n".join(line + more if rng.random() < share else line for line in lines)


def at_line_starts(rng: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    more = rng.choice((b"# ", b"\t", b"30\n", b"# head\\\n", b"mtllib C:\\a\\\n", b"\xef\xbb\xbf"))
    i = rng.randrange(len(lines)) if rng.random() < 0.5 else 0
    return b"\n".join([*lines[:i], more + lines[i], *lines[i + 1 :]])


def other_decimals(rng: Random, content: bytes) -> bytes:
    old, new = rng.choice(((b".", b","), (b" ", b";"), (b" ", b"\t"), (b",", b";"), (b"3", b"3,1")))
    return content.replace(old, new)


def missing_values(rng: Random, content: bytes) -> bytes:
    words = (b"nan", b"-1.#IND", b"nan(ind)", b"1.#QNAN0", b"inf", b"1e39", b"NaN")
    found = list(re.finditer(rb"-?\d+\.\d+", content[:20_000]))[:: rng.choice((1, 3, 40))]
    for match in reversed(found):
        content = content[: match.start()] + rng.choice(words) + content[match.end() :]
    return content


def shorter_faces(rng: Random, content: bytes) -> bytes:
    content = re.sub(rb"\n3 (\d+ \d+) \d+", rb"\n2 \1", content, count=rng.choice((0, 1, 5)))
    return re.sub(rb"\nf (\S+ \S+) \S+", rb"\nf \1", content, count=rng.choice((0, 1, 5)))


def longer(rng: Random, content: bytes) -> bytes:
    return content + rng.choice((b"\0", b"x", b"\n" * 9, b"1 2 3\n", bytes(99), rng.randbytes(40)))


HABITS: tuple[Callable[[Random, bytes], bytes], ...] = (
    packed,
    in_utf_16,
    other_line_ends,
    at_line_ends,
    at_line_ends,
    at_line_starts,
    other_decimals,
    missing_values,
    shorter_faces,
    longer,
    lambda rng, content: content.upper(),
    lambda rng, content: content.rstrip(b"\n"),
)


# packed formats, spoilt inside


def packing_of(content: bytes) -> Callable[[Random, bytes], bytes] | None:
    """What spoils the inside of such a file; None where it is not packed."""
    found = [pack for magic, pack in PACKINGS.items() if content.startswith(magic)]
    return found[0] if found else None


def in_gzip(rng: Random, content: bytes) -> bytes:
    return gzip.compress(spoilt(rng, gzip.decompress(content)), 1)


def in_zip(rng: Random, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice(sorted(members))
    members[chosen] = spoilt(rng, members[chosen])
    return zipped(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def zipped(members: Mapping[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def in_png(rng: Random, content: bytes) -> bytes:
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    i = rng.randrange(len(chunks))
    name, data = chunks[i]
    if name == b"IDAT" and rng.random() < 0.7:
        data = zlib.compress(spoilt(rng, zlib.decompress(data)))
    else:
        data = spoilt(rng, data)
    chunks[i] = (name, data)
    rows = (
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    return content[:8] + b"".join(rows)


def in_glb(rng: Random, content: bytes) -> bytes:
    size = int.from_bytes(content[12:16], "little")
    text, rest = spoilt(rng, content[20 : 20 + size]), content[20 + size :]
    if rng.random() < 0.3 and len(rest) > 8:
        data = spoilt(rng, rest[8:])
        rest = struct.pack("<I", len(data)) + rest[4:8] + data
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return head + text + rest


def in_mat(rng: Random, content: bytes) -> bytes:
    """With the first element packed."""
    data = spoilt(rng, content[128:])
    if rng.random() < 0.5:
        data = zlib.compress(data)
        data = struct.pack("<II", 15, len(data)) + data
    return content[:128] + data


PACKINGS = {
    b"\x1f\x8b": in_gzip,
    b"PK": in_zip,
    b"\x89PNG": in_png,
    b"glTF": in_glb,
    b"MATLAB": in_mat,
}


# names that lead elsewhere


def hostile_names(rng: Random, content: bytes) -> bytes:
    """Every name of a file in the text replaced by one that leads out of the folder."""
    hostile = rng.choice(HOSTILE).encode()
    found = NAME.sub(lambda _: hostile, content)
    return found if found != content else NAMING.sub(lambda m: m[1] + hostile, content)


NAME = re.compile(rb"[\w.{}/*]+\.(?:mtl|png|jpg|bmp|bin|txt|lnd|obj|ply|wrl)\b")
NAMING = re.compile(rb"(mtllib |map_Kd |TextureFile |\"uri\": ?\"|url \"|file: \"?)[^\s\"]*")
HOSTILE = [
    *("../outside/secret.png", "../outside/secret.mtl", "../outside/secret.bin", "leads_out.png"),
    *("leads_out.mtl", "out/secret.png", "out/secret.mtl", "out/secret.bin", "/etc/passwd", "pipe"),
    *(
        "/dev/zero",
        "/dev/stdin",
        "..",
        ".",
        "/",
        "~",
        "~root/.profile",
        "a" * 5000,
        "a/" * 2000,
        "\0",
    ),
    *(
        r"..\outside\secret.png",
        r"C:\windows\win.ini",
        "file:///etc/passwd",
        "%2e%2e/outside/secret.bin",
    ),
    *(
        "http://localhost:9/x.png",
        "data:,x",
        "data:;base64,!!!!",
        "scan.png/../../outside/secret.png",
    ),
    *(
        "{subject}/../../outside/x",
        "/{stem}.lnd",
        "*",
        "a\nb",
        "con",
        " ",
        "",
        "zero.png",
        "out/*.png",
    ),
]


def prepare(root: Path) -> Path:
    """The folder for scans within `root`, with links out of it, a pipe and a device."""
    folder, outside = root / "scans", root / OUTSIDE
    folder.mkdir(parents=True)
    outside.mkdir()
    for name in ("secret.png", "secret.mtl", "secret.bin"):
        (outside / name).write_bytes(b"map_Kd secret.png\n" * 9)
    (folder / "leads_out.png").symlink_to(outside / "secret.png")
    (folder / "leads_out.mtl").symlink_to(outside / "secret.mtl")
    (folder / "out").symlink_to(outside, target_is_directory=True)
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe")
    return folder


# little files that ask for much


@cache
def gzip_bomb(whole: bytes) -> bytes:
    """A range image of 2048 · 2048 pixels, and four values more a pixel than it announces."""
    head = b"2048 rows\n2048 columns\npixels (flag X Y Z):\n"
    return gzip.compress(head + b"0 " * (20 << 20), 1)


def wide(whole: bytes) -> bytes:
    """A long gap at every word of the header; a pattern may try each split of a gap."""
    return re.sub(rb"(?<=\w)(?=[\s\[{(\"])", b" " * (1 << 15), whole[:200]) + whole[200:]


def openings(whole: bytes) -> bytes:
    """Each word of the header opened again and again and never closed."""
    words = set(re.findall(rb"\w+ *[\[{(\"<]", whole[:2000]))
    return whole + b"".join(word * 4000 for word in sorted(words)[:20])


def many_digits(whole: bytes) -> bytes:
    return whole[:9] + b"9" * (1 << 17) + b"x" + whole[9:]


def wrl_openings(whole: bytes) -> bytes:
    nodes = (b"TextureTransform {", b"Coordinate { point [", b"coordIndex [", b'url [ "', b"url ")
    return b"".join(whole + b"\n" + node * 8_000 for node in nodes)


@cache
def zip_bomb(whole: bytes) -> bytes:
    shape = (3 << 20, 3)
    data = np.lib.format.header_data_from_array_1_0(np.empty((0, 3), np.float32))
    members = {}
    for name in ("vertices", "depth"):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, data | {"shape": shape})
        members[f"{name}.npy"] = buffer.getvalue() + bytes(12 * shape[0])
    return zipped(members, zipfile.ZIP_DEFLATED)


def lying_array(whole: bytes) -> bytes:
    """An array whose header announces much more than follows."""
    buffer = io.BytesIO()
    header = {"shape": (10**9, 3), "descr": "<f4", "fortran_order": False}
    np.lib.format.write_array_header_1_0(buffer, header)
    array = buffer.getvalue() + bytes(120)
    if whole.startswith(b"PK"):
        return zipped({"vertices.npy": array, "faces.npy": array, "depth.npy": array}, 0)
    return array


def nested_array(whole: bytes) -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + b"-" * 9000 + b"1}\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    return zipped({"vertices.npy": array}, 0) if whole.startswith(b"PK") else array


@cache
def big_png(whole: bytes) -> bytes:
    """An image of 60 000 · 60 000 pixels of nothing."""
    rows = zlib.compress(bytes(60_000 * 2 * 500), 9)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)), (b"IDAT", rows))
    body = (
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@cache
def mat_bomb(whole: bytes) -> bytes:
    packed = zlib.compress(struct.pack("<II", 14, 300 << 20) + bytes(80 << 20), 1)
    return whole[:128].ljust(128, b"\0") + struct.pack("<II", 15, len(packed)) + packed


def laughs(whole: bytes) -> bytes:
    """Ten entities, each ten of the one before (Klein, "Billion laughs", 2002)."""
    rows = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    text = '<point active="1" name="&l9;" x="1" y="2" z="3"/>'
    head = f'<?xml version="1.0"?><!DOCTYPE PickedPoints [<!ENTITY l0 "ha">{rows}]>'
    return f"{head}<PickedPoints>{text}</PickedPoints>".encode()


def foreign_entity(whole: bytes) -> bytes:
    head = '<!DOCTYPE PickedPoints [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    text = '<PickedPoints><point name="1" x="1" y="2" z="3"/>&x;</PickedPoints>'
    return (head + text).encode()


def deep(opening: bytes, closing: bytes, n: int) -> Callable[[bytes], bytes]:
    return lambda whole: opening * n + closing * n


def deep_inside(whole: bytes) -> bytes:
    """Deep brackets where a JSON document has its first list."""
    return whole.replace(b"[", b"[" * 50_000, 1) if b"[" in whole else whole + b"[" * 50_000


def long_line(whole: bytes) -> bytes:
    return whole + b"9" * (2 << 20)


def many_words(whole: bytes) -> bytes:
    return whole + b" 1" * (1 << 18)


def many_rows(whole: bytes) -> bytes:
    return whole + b"\n" * (1 << 18) + b"v\n" * (1 << 16)


def yaml_laughs(whole: bytes) -> bytes:
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(["a0: &a0 ha", *rows, "title: *a11", ""]).encode() + whole


def json_numbers(whole: bytes) -> bytes:
    group = {"landmarks": {"points": [[1e400, -1e400, 10**4000]]}, "labels": []}
    return json.dumps({"version": 3, "groups": {"LJSON": group}}).encode()


@cache
def packed_text(line: bytes) -> Callable[[bytes], bytes]:
    """The whole and a line again and again, just below what gzip data may unpack to."""
    return lambda whole: gzip.compress(whole + line * ((GZIP_SPARE - len(whole)) // len(line)), 9)


BOMBS: tuple[Callable[[bytes], bytes], ...] = (
    deep(b"[", b"]", 50_000),
    deep(b'{"a":', b"}", 50_000),
    deep(b"<a>", b"</a>", 50_000),
    deep(b"{", b"}", 50_000),
    deep_inside,
    long_line,
    many_words,
    many_rows,
    many_digits,
    wide,
    openings,
    lambda whole: gzip.compress(bytes(64 << 20), 9),
    packed_text(b"\n"),
    packed_text(b"1 "),
    packed_text(b"1\n"),
    packed_text(b"v 1 2 3\n"),
    packed_text(b"f 1 2 3\\\n"),
    packed_text(b"#\\\n"),
    packed_text(b"1,2 "),
    packed_text(b"vertex 1 1 1 "),
    packed_text(b"x "),
)
"""For every format."""
OWN_BOMBS: dict[str, tuple[Callable[[bytes], bytes], ...]] = {
    "wrl": (wrl_openings,),
    "abs.gz": (gzip_bomb,),
    "npz": (zip_bomb, lying_array, nested_array),
    "depth.npz": (zip_bomb, lying_array, nested_array),
    "png": (big_png,),
    "mat": (mat_bomb,),
    "landmarks npy": (lying_array, nested_array),
    "landmarks pp": (laughs, foreign_entity),
    "landmarks ljson": (json_numbers,),
    "registry": (yaml_laughs,),
}


# reading under guard


@dataclass(frozen=True)
class Outcome:
    kind: Literal["refused", "accepted", "failed"]
    detail: str = ""
    seconds: float = 0.0
    """Of the processor: other programs that run do not count."""
    peak_bytes: int = 0
    """Resident memory above what the process had before."""


def outcome(target: Target, folder: Path, seed: int) -> Outcome:
    """What the reader does with a mutated file, in a folder made by `prepare`."""
    files = mutated(target, seed)
    for name, content in files.items():
        if content is LINK:
            (folder / name).symlink_to(folder.parent / OUTSIDE / "secret.png")
        else:
            (folder / name).write_bytes(content)
    path = folder / target.file_name
    allowed = MEMORY_BYTES + len(files[target.file_name])
    reset_peak()
    with limited(allowed), watched(folder) as touched:
        before, start = memory()[1], time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                found = target.read(path)
            kind, detail = "accepted", leak(found, folder)
        except target.refusal as error:
            kind, detail = "refused", "" if str(error) else "an error without a word"
        except Hang:
            kind, detail = "failed", f"no end after {HANG_SECONDS} s"
        except BaseException as error:
            kind, detail = "failed", f"{type(error).__name__}: {error}"[:200]
        seconds = time.process_time() - start
    peak = peak_resident() - before
    if touched:
        kind, detail = "failed", f"touched {touched[0]}"
    for name in files:
        (folder / name).unlink()
    return Outcome("failed" if detail else kind, detail, seconds, peak)


def leak(found: Any, folder: Path) -> str:
    """What an accepted scan or registry says about files outside of its folder."""
    if isinstance(found, SourceRegistry):
        steps = found.transform.steps if found.transform else ()
        parts = (found.landmarks, found.subjects.table, found.scale, *steps)
        templates = [*found.images, *(part.file or "" for part in parts if part is not None)]
        out = [t for t in templates if t.startswith("/") or ".." in re.split(r"[/\\]", t)]
        return f"template {out[0]}" if out else ""
    image = getattr(found, "texture_path", None)
    inside = image is None or image.resolve().is_relative_to(folder.resolve())
    return "" if inside else f"texture {image} outside of the folder"


class Hang(BaseException):
    """Raised in a reader that does not come to an end; no `except Exception` stops it."""


@contextmanager
def limited(n_bytes: int) -> Iterator[None]:
    """Address space and time are short inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory()[0] + n_bytes, hard))
    handler = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def out_of_time(*_: Any) -> None:
    raise Hang


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """The list that every file opened outside of the folder is written to, and worse deeds."""
    if not WATCH:
        sys.addaudithook(audit)
    touched: list[str] = []
    WATCH[:] = [(folder.resolve(), touched)]
    try:
        yield touched
    finally:
        WATCH[:] = [None]


WATCH: list[tuple[Path, list[str]] | None] = []
"""Empty until the audit hook, which cannot be taken back, is there."""
OWN = (sys.base_prefix, sys.prefix, str(Path(os.__file__).parent), str(REPOSITORY / "pipeline"))
"""Where Python and facefold have their own files."""
DEEDS = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "pickle.",
    "urllib.",
    "shutil.",
)


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    watch = WATCH[0]
    if watch is None:
        return
    folder, touched = watch
    if event in ("open", "os.listdir", "os.scandir"):
        opened = arguments[0]
        if isinstance(opened, int) or opened in (None, "<string>", "<unknown>"):
            return  # the last are where Python 3.12 looks for the line of a syntax error
        WATCH[0] = None  # resolving must not be audited
        place, real = os.fsdecode(opened), os.path.realpath(opened)
        WATCH[0] = watch
        if not real.startswith(f"{folder}/") and not place.startswith(OWN):
            touched.append(f"{event} {place}")
    elif event.startswith(DEEDS):
        touched.append(f"{event} {arguments!r}"[:200])


@cache
def process_file(name: str) -> int:
    """The open file of this process in /proc; another process has another."""
    return os.open(f"/proc/self/{name}", os.O_WRONLY if name == "clear_refs" else os.O_RDONLY)


os.register_at_fork(after_in_child=process_file.cache_clear)


def memory() -> tuple[int, int]:
    """Bytes of address space and of resident memory."""
    size, resident = os.pread(process_file("statm"), 99, 0).split()[:2]
    return int(size) * resource.getpagesize(), int(resident) * resource.getpagesize()


def peak_resident() -> int:
    """Most bytes of resident memory since `reset_peak`."""
    status = os.pread(process_file("status"), 4096, 0)
    return int(status.partition(b"VmHWM:")[2].split()[0]) << 10


def reset_peak() -> None:
    os.write(process_file("clear_refs"), b"5")
