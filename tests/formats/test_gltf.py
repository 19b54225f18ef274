"""glTF: nodes, shared vertices, strips and fans, colours, Draco, buffers and images beside."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import pytest
import trimesh
from PIL import Image
from scan_writers import glb_file, gltf_document, surface

from pipeline.errors import FormatError
from pipeline.formats.gltf import read_glb, read_gltf
from pipeline.types import RawScan

VERTICES, FACES = surface()


def read(folder: Path, document: dict[str, Any], binary: bytes) -> RawScan:
    path = folder / "scan.glb"
    path.write_bytes(glb_file(document, binary))
    return read_glb(path)


def sheet(**node: Any) -> tuple[dict[str, Any], bytes]:
    """The contract's document, its one node placed."""
    document, binary = gltf_document(VERTICES, FACES)
    document["nodes"][0] |= node
    return document, binary


def normals_z(scan: RawScan) -> np.ndarray:
    a, b, c = (scan.vertices[scan.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)[:, 2]


def test_scenes_of_another_writer(tmp_path: Path) -> None:
    """Two boxes under rotated, scaled and shifted nodes, against trimesh's own reading."""
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [4, 5, 6])
    scene.add_geometry(trimesh.creation.icosphere(2), "a", transform=turn * 1.5)
    scene.add_geometry(trimesh.creation.box((1, 2, 3)), "b", parent_node_name="a", transform=turn)
    for name, reader in (("scan.glb", read_glb), ("scan.gltf", read_gltf)):
        path = tmp_path / name
        if name == "scan.glb":
            scene.export(path)
        else:
            for file, content in scene.export(file_type="gltf").items():
                (tmp_path / file).write_bytes(content)
            path = tmp_path / "model.gltf"
        scan, expected = reader(path), trimesh.load_scene(path).to_mesh()
        assert len(scan.vertices) == len(expected.vertices)
        ours = np.sort(scan.vertices[scan.faces].mean(1), axis=0)
        theirs = np.sort(expected.triangles.mean(1), axis=0)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        moved = trimesh.Trimesh(scan.vertices, scan.faces)
        assert moved.volume == pytest.approx(expected.volume, rel=1e-5)


def test_translation_rotation_and_scale(tmp_path: Path) -> None:
    """A quarter turn about z (x to y) after the scale, the shift last."""
    half = np.sqrt(0.5)
    scan = read(
        tmp_path,
        *sheet(scale=[2, 1, 1], rotation=[0, 0, half, half], translation=[100, 0, 5]),
    )
    x, y, z = VERTICES.T
    np.testing.assert_allclose(scan.vertices, np.stack([100 - y, 2 * x, z + 5], 1), atol=1e-4)


def test_a_matrix_is_by_columns_and_children_follow_parents(tmp_path: Path) -> None:
    shift = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 10, 20, 30, 1]
    document, binary = sheet(matrix=shift)
    document["nodes"] += [{"children": [0], "scale": [1000, 1000, 1000]}, {"mesh": 0}]
    document["scenes"] = [{"nodes": []}, {"nodes": [1, 2]}]
    scan = read(tmp_path, document | {"scene": 1}, binary)
    expected = np.concatenate([1000 * (VERTICES + np.array([10, 20, 30])), VERTICES])
    np.testing.assert_allclose(scan.vertices, expected, rtol=1e-6)
    np.testing.assert_array_equal(scan.faces, np.concatenate([FACES, FACES + 30]))


def test_a_reflection_keeps_the_outside(tmp_path: Path) -> None:
    assert (normals_z(read(tmp_path, *sheet(scale=[-1, 1, 1]))) > 0).all()


def test_primitives_share_their_vertices(tmp_path: Path) -> None:
    """One mesh in three parts on one list of points: triangles, a strip and a fan."""
    document, binary = sheet()
    strip, fan = [0, 5, 1, 6, 2], [0, 5, 6, 1]
    for i, (mode, corners) in enumerate(((5, strip), (6, fan))):
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": 2 * len(corners)}
        binary += struct.pack(f"<{len(corners)}H", *corners)
        document["bufferViews"].append(view)
        document["accessors"].append(
            {"bufferView": 2 + i, "componentType": 5123, "count": len(corners), "type": "SCALAR"}
        )
        document["meshes"][0]["primitives"].append(
            {"attributes": {"POSITION": 0}, "indices": 2 + i, "mode": mode}
        )
    document["buffers"][0]["byteLength"] = len(binary)
    scan = read(tmp_path, document, binary)
    assert len(scan.vertices) == 30 and (normals_z(scan) > 0).all()
    assert scan.faces[40:].tolist() == [[0, 5, 1], [1, 5, 6], [1, 6, 2], [0, 5, 6], [0, 6, 1]]


def test_interleaved_vertices_with_colours_and_no_indices(tmp_path: Path) -> None:
    rows = np.zeros(30, [("position", "<f4", 3), ("colour", "u1", 4)])
    rows["position"], rows["colour"] = VERTICES, [[255, 128, 0, 9]] * 30
    document, _ = sheet()
    document["meshes"][0]["primitives"] = [{"attributes": {"POSITION": 0, "COLOR_0": 1}}]
    fractions = {"componentType": 5121, "normalized": True, "type": "VEC4"}
    document["accessors"][1] = {"bufferView": 0, "byteOffset": 12, "count": 30, **fractions}
    document["bufferViews"] = [{"buffer": 0, "byteLength": 480, "byteStride": 16}]
    document["buffers"] = [{"byteLength": 480}]
    scan = read(tmp_path, document, rows.tobytes())
    np.testing.assert_array_equal(scan.vertices, VERTICES)
    assert scan.faces.tolist() == np.arange(30).reshape(10, 3).tolist()
    assert scan.colours is not None and (scan.colours == [255, 128, 0]).all()


def test_quantised_positions(tmp_path: Path) -> None:
    """Normalised 16-bit fractions, four bytes aligned, brought to size by the node's matrix."""
    low, size = VERTICES.min(0), np.ptp(VERTICES, axis=0)
    rows = np.zeros((30, 4), "<u2")
    rows[:, :3] = np.rint((VERTICES - low) / size * 65535)
    document, binary = sheet(scale=size.tolist(), translation=low.tolist())
    document["extensionsRequired"] = ["KHR_mesh_quantization"]
    document["accessors"][0] |= {"componentType": 5123, "normalized": True, "bufferView": 2}
    view = {"buffer": 0, "byteOffset": len(binary), "byteLength": 240, "byteStride": 8}
    document["bufferViews"].append(view)
    document["buffers"][0]["byteLength"] = len(binary) + 240
    scan = read(tmp_path, document, binary + rows.tobytes())
    np.testing.assert_allclose(scan.vertices, VERTICES, atol=2e-4)


def draco(faces: np.ndarray = FACES) -> tuple[dict[str, Any], bytes]:
    binary = DracoPy.encode(VERTICES, faces.astype(np.uint32), preserve_order=True)
    document, _ = sheet(scale=[1, 1, 2])
    name = "KHR_draco_mesh_compression"
    packed = {name: {"bufferView": 0, "attributes": {"POSITION": 0}}}
    document["meshes"][0]["primitives"][0]["extensions"] = packed
    for accessor in document["accessors"]:
        del accessor["bufferView"]
    document["bufferViews"] = [{"buffer": 0, "byteLength": len(binary)}]
    document["buffers"] = [{"byteLength": len(binary)}]
    return document | {"extensionsUsed": [name], "extensionsRequired": [name]}, binary


def test_draco_is_decoded(tmp_path: Path) -> None:
    scan = read(tmp_path, *draco())
    np.testing.assert_allclose(scan.vertices, VERTICES * [1, 1, 2], atol=2e-3)
    np.testing.assert_array_equal(scan.faces, FACES)


def test_damaged_draco_is_refused(tmp_path: Path) -> None:
    document, binary = draco()
    with pytest.raises(FormatError, match="damaged Draco data"):
        read(tmp_path, document, b"X" + binary[1:])
    document["accessors"][0]["count"] = 31
    with pytest.raises(FormatError, match=r"positions of shape \(30, 3\), expected \(31, 3\)"):
        read(tmp_path, document, binary)


def beside(folder: Path, uri: str) -> Path:
    document, binary = sheet()
    document["buffers"][0]["uri"] = uri
    document |= {
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"uri": "my%20skin.png"}],
    }
    for name in ("points 1.bin", "../outside.bin"):
        (folder / name).write_bytes(binary)
    path = folder / "scan.gltf"
    path.write_text(json.dumps(document))
    return path


def test_buffers_and_images_in_the_scans_folder(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    path = beside(tmp_path / "scans", "points%201.bin")
    (path.parent / "my skin.png").touch()
    scan = read_gltf(path)
    np.testing.assert_array_equal(scan.vertices, VERTICES)
    assert scan.texture_path == path.parent / "my skin.png"


@pytest.mark.parametrize(
    "uri", ["../outside.bin", "link.bin", "{root}/outside.bin", "http://a/b", ""]
)
def test_buffers_elsewhere_are_not_opened(tmp_path: Path, uri: str) -> None:
    (tmp_path / "scans").mkdir()
    path = beside(tmp_path / "scans", uri.format(root=tmp_path))
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(FormatError, match=r"no buffer .* in its folder"):
        read_gltf(path)


def change(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (change("asset", "version", to="1.0"), "glTF 1.0, expected 2.0"),
        (change("extensionsRequired", to=["EXT_meshopt_compression"]), "EXT_meshopt_compression"),
        (change("nodes", 0, "skin", to=0), "node 0 has a skin"),
        (change("nodes", 0, "weights", to=[0.5]), "morphed by weights"),
        (change("nodes", 0, "children", to=[0]), "node 0 stands in two places"),
        (change("nodes", 0, "mesh", to=7), "mesh 7, but there are 1"),
        (change("nodes", 0, "translation", to=[1, 2]), "nodes.0.translation"),
        (change("nodes", 0, "scale", to=[1e300, 1, 1]), "30 of 30 vertices are not finite"),
        (change("nodes", 0, to={}), "shows no mesh"),
        (change("scene", to=3), "scene 3, but there are 1"),
        (change("accessors", 0, "count", to=31), "accessor 0 of 31 values ends at byte 372 of 360"),
        (change("accessors", 1, "count", to=119), "119 indices of triangles"),
        (change("accessors", 0, "count", to=10**12), "takes 12000000000960 bytes"),
        (change("accessors", 0, "type", to="VEC2"), "type 'VEC2', expected VEC3"),
        (change("accessors", 0, "sparse", to={"count": 1}), "sparse values"),
        (change("accessors", 0, "bufferView", to=None), "accessor 0 has no data"),
        (change("accessors", 1, "componentType", to=5126), "indices of type float32"),
        (change("bufferViews", 0, "byteLength", to=5000), "ends at byte 5000 of 840"),
        (change("buffers", 0, "byteLength", to=5000), "buffer 0 has 840 bytes, expected 5000"),
        (change("meshes", 0, "primitives", 0, "attributes", to={"NORMAL": 0}), "has no POSITION"),
    ],
)
def test_bad_documents(tmp_path: Path, spoil: Any, fault: str) -> None:
    document, binary = sheet()
    spoil(document)
    with pytest.raises(FormatError, match=fault):
        read(tmp_path, document, binary)


def test_one_mesh_shown_again_and_again(tmp_path: Path) -> None:
    document, binary = gltf_document(VERTICES, np.tile(FACES, (200, 1)))
    document["nodes"] *= 200
    document["scenes"][0]["nodes"] = list(range(200))
    with pytest.raises(FormatError, match="takes 38472000 bytes, expected 21595216 at most"):
        read(tmp_path, document, binary)


def test_json_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "scan.gltf"
    path.write_text('{"asset":' + "[" * 100_000)
    with pytest.raises(FormatError, match="not the JSON of a glTF"):
        read_gltf(path)


def textured(
    folder: Path, materials: list[dict[str, Any]], images: list[dict[str, Any]]
) -> tuple[dict[str, Any], bytes]:
    """The sheet in two primitives of 10 and 30 triangles, each with the material of its number;
    texture coordinates are x and y over 100."""
    document, binary = gltf_document(VERTICES, FACES)
    uv = (VERTICES[:, :2] / 100).astype("<f4")
    document["accessors"] += [
        {"bufferView": 1, "componentType": 5125, "type": "SCALAR", "count": 30},
        {"bufferView": 1, "componentType": 5125, "type": "SCALAR", "count": 90, "byteOffset": 120},
        {"bufferView": 2, "componentType": 5126, "type": "VEC2", "count": 30},
    ]
    view = {"buffer": 0, "byteOffset": len(binary), "byteLength": uv.nbytes}
    document["bufferViews"].append(view)
    binary += uv.tobytes() + b"an image"
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary) - 8, "byteLength": 8})
    document["buffers"][0]["byteLength"] = len(binary)
    attributes = {"POSITION": 0, "TEXCOORD_0": 4}
    document["meshes"][0]["primitives"] = [
        {"attributes": attributes, "indices": 2 + i, "material": i} for i in range(2)
    ]
    document["textures"] = [{"source": i} for i in range(len(images))]
    document["materials"] = [{"pbrMetallicRoughness": material} for material in materials]
    document["images"] = images
    for image in images:
        if not image.get("uri", "data:").startswith("data:"):
            (folder / image["uri"]).touch()
    return document, binary


UP = np.stack([VERTICES[:, 0] / 100, 1 - VERTICES[:, 1] / 100], axis=1)
"""Of the sheet: glTF's v runs down."""


def shows(texture: int, **more: Any) -> dict[str, Any]:
    return {"baseColorTexture": {"index": texture, **more}}


def test_texture_coordinates_and_an_image_inside(tmp_path: Path) -> None:
    document, binary = textured(tmp_path, [shows(0), shows(0)], [{"bufferView": 3}])
    assert document["accessors"][4]["count"] == 30
    scan = read(tmp_path, document, binary)
    assert scan.uv is not None
    np.testing.assert_allclose(scan.uv, UP[scan.faces], atol=1e-6)
    assert scan.texture_bytes == b"an image" and scan.texture_path is None


def test_an_image_in_the_json(tmp_path: Path) -> None:
    images = [{"uri": "data:image/png;base64,YW4gaW1hZ2U="}]
    scan = read(tmp_path, *textured(tmp_path, [shows(0), shows(0)], images))
    assert scan.texture_bytes == b"an image"


def test_primitives_are_painted_by_their_own_image_only(tmp_path: Path) -> None:
    images = [{"uri": "eyes.png"}, {"uri": "skin.png"}]
    scan = read(tmp_path, *textured(tmp_path, [shows(0), shows(1)], images))
    assert scan.texture_path == tmp_path / "skin.png"
    assert scan.uv is not None and scan.left_out == {"triangles_of_other_images": 10}
    assert np.isnan(scan.uv[:10]).all() and np.isfinite(scan.uv[10:]).all()


def test_the_larger_image_may_be_missing(tmp_path: Path) -> None:
    images = [{"uri": "eyes.png"}, {"uri": "data:image/png;base64,?"}]
    scan = read(tmp_path, *textured(tmp_path, [shows(0), shows(1)], images))
    assert scan.texture_path == tmp_path / "eyes.png"
    assert scan.left_out == {"triangles_of_other_images": 30}


def test_a_moved_texture_in_a_mirrored_node(tmp_path: Path) -> None:
    """Scaled, turned against the clock by a quarter, then moved; v still down."""
    place = {"offset": [0.5, 0], "rotation": np.pi / 2, "scale": [2, 1]}
    material = shows(0, extensions={"KHR_texture_transform": place})
    document, binary = textured(tmp_path, [material, material], [{"bufferView": 3}])
    document["nodes"][0]["scale"] = [-1, 1, 1]
    scan = read(tmp_path, document, binary)
    stored = VERTICES[:, :2] / 100
    expected = np.stack([0.5 + stored[:, 1], 1 + 2 * stored[:, 0]], axis=1)
    np.testing.assert_allclose(scan.uv, expected[scan.faces], atol=1e-6)


def test_texture_coordinates_of_another_writer(tmp_path: Path) -> None:
    """trimesh writes v down and flips it back when it reads."""
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    mesh.visual = trimesh.visual.TextureVisuals(UP, image=image)
    (tmp_path / "scan.glb").write_bytes(mesh.export(file_type="glb"))
    scan = read_glb(tmp_path / "scan.glb")
    np.testing.assert_allclose(scan.uv, UP[scan.faces], atol=1e-6)
    assert scan.texture_bytes is not None
    inside = Image.open(io.BytesIO(scan.texture_bytes))
    np.testing.assert_array_equal(np.asarray(inside.convert("RGB")), np.asarray(image))


def test_texture_coordinates_in_draco(tmp_path: Path) -> None:
    data = DracoPy.encode(
        VERTICES, FACES.astype(np.uint32), tex_coord=UP * [1, -1] + [0, 1], quantization_bits=20
    )
    document, _ = textured(tmp_path, [shows(0), shows(0)], [{"uri": "skin.png"}])
    found = {a["attribute_type"]: a["unique_id"] for a in DracoPy.decode(data).attributes}
    draco = {"bufferView": 0, "attributes": {"POSITION": found[0], "TEXCOORD_0": found[3]}}
    primitive = document["meshes"][0]["primitives"][0]
    primitive["extensions"] = {"KHR_draco_mesh_compression": draco}
    document["meshes"][0]["primitives"] = [primitive]
    document["bufferViews"] = [{"buffer": 0, "byteLength": len(data)}]
    document["buffers"][0]["byteLength"] = len(data)
    scan = read(tmp_path, document, data)
    place = scan.vertices[scan.faces][..., :2] / 100
    expected = np.stack([place[..., 0], 1 - place[..., 1]], axis=-1)
    np.testing.assert_allclose(scan.uv, expected, atol=1e-2)


def test_a_texture_that_cannot_be_read_leaves_the_surface_whole(tmp_path: Path) -> None:
    document, binary = textured(tmp_path, [shows(0), shows(0)], [{"bufferView": 3}])
    document["accessors"][4]["count"] = 3000
    scan = read(tmp_path, document, binary)
    assert len(scan.faces) == len(FACES) and scan.uv is None
    assert scan.left_out == {"texture_coordinates_unreadable": 2}
