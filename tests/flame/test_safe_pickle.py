"""Pickles give arrays, Python 2's and chumpy's too; nothing in them is executed."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import pickletools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from pipeline.errors import ModelError
from pipeline.flame.safe_pickle import read_npy, read_npz, read_pickle

ARRAYS = {
    "float": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "index": np.array([[4294967295, 0], [0, 1]], dtype=np.uint32),
    "big-endian": np.arange(3, dtype=">i4"),
    "scalar": np.float32(2.5),
    "text": "lrotmin",
    "nested": [np.ones(2), (np.zeros(1), 3)],
    "objects": np.array([None, "a", 3], dtype=object),
    "empty": np.zeros((4, 0)),
}


def read(data: bytes, **options: Any) -> Any:
    return read_pickle(io.BytesIO(data), "file.pkl", **options)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(protocol: int) -> None:
    found = read(pickle.dumps(ARRAYS, protocol))
    assert found.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        if name == "nested":
            np.testing.assert_array_equal(found[name][0], np.ones(2))
            np.testing.assert_array_equal(found[name][1][0], np.zeros(1))
            continue
        np.testing.assert_array_equal(found[name], expected)
        if isinstance(expected, np.ndarray):
            assert found[name].shape == expected.shape
            assert found[name].dtype == expected.dtype


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "csc_array", "csr_array"])
def test_sparse_matrices(kind: str) -> None:
    dense = np.array([[0, 2.0, 0], [1, 0, 3]])
    found = read(pickle.dumps(getattr(scipy.sparse, kind)(dense), 2))
    np.testing.assert_array_equal(found.toarray(), dense)


def test_older_module_names_of_numpy_and_scipy() -> None:
    data = pickle.dumps({"a": np.ones(3), "s": scipy.sparse.csc_matrix(np.eye(2))}, 2)
    for new, old in ((b"numpy._core.", b"numpy.core."), (b"sparse._csc", b"sparse.csc")):
        assert new in data
        data = data.replace(new, old)
    found = read(data)
    np.testing.assert_array_equal(found["a"], np.ones(3))
    np.testing.assert_array_equal(found["s"].toarray(), np.eye(2))


def python_2_pickle(array: np.ndarray[Any, Any]) -> bytes:
    """The text pickle Python 2 wrote by default, whose raw bytes are an escaped string."""
    raw = "".join(f"\\x{byte:02x}" for byte in array.tobytes())
    n = len(array)
    return (
        "(dp0\nS'x'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
        f"S'b'\np5\ntp6\nRp7\n(I1\n(I{n}\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n"
        "(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        f"S'{raw}'\np15\ntp16\nbs."
    ).encode("ascii")


def test_python_2_text_pickle() -> None:
    array = np.array([0.1, -2.5e300, 255.0])
    np.testing.assert_array_equal(read(python_2_pickle(array))["x"], array)


@pytest.fixture()
def chumpy() -> Iterator[types.SimpleNamespace]:
    """Classes that pickle as chumpy's do, gone again before anything is read."""
    modules = {
        name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")
    }

    def make(module: str, name: str) -> type:
        made = type(name, (), {"__module__": module})
        setattr(modules[module], name, made)
        return made

    classes = types.SimpleNamespace(
        Ch=make("chumpy.ch", "Ch"),
        MatVecMult=make("chumpy.ch", "MatVecMult"),
        Select=make("chumpy.reordering", "Select"),
        Reshape=make("chumpy.reordering", "Reshape"),
        modules=modules,
    )
    sys.modules.update(modules)
    yield classes
    for name in modules:
        sys.modules.pop(name, None)


def chumpy_object(kind: type, **state: Any) -> Any:
    made = kind()
    made.__dict__.update(state, _dirty_vars={"x"}, _itr=None, _depends_on_deps={})
    return made


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_chumpy_objects_become_arrays_without_chumpy(
    chumpy: types.SimpleNamespace, protocol: int
) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    whole = chumpy_object(chumpy.Ch, x=array)
    picked = chumpy_object(
        chumpy.Select, a=whole, idxs=np.array([23, 0, 5, 7]), preferred_shape=(2, 2)
    )
    data = pickle.dumps(
        {
            "shapedirs": whole,
            "picked": picked,
            "flat": chumpy_object(chumpy.Reshape, a=whole, newshape=(-1,)),
            "J": chumpy_object(chumpy.MatVecMult, mtx=np.eye(2), vec=whole),
        },
        protocol,
    )
    for name in chumpy.modules:
        del sys.modules[name]
    with pytest.raises(ModelError, match=r"chumpy\.MatVecMult cannot be read without chumpy"):
        read(data)
    found = read(data, keys=("shapedirs", "picked", "flat"))
    assert "chumpy" not in sys.modules
    np.testing.assert_array_equal(found["shapedirs"], array)
    np.testing.assert_array_equal(found["picked"], [[23, 0], [5, 7]])
    np.testing.assert_array_equal(found["flat"], np.arange(24.0))


def test_torch_tensors_inside_a_pickle() -> None:
    tensor = torch.arange(24.0).reshape(4, 6)[:, 2:4]
    found = read(pickle.dumps({"t": tensor, "i": torch.tensor([3, 1])}))
    np.testing.assert_array_equal(found["t"], tensor.numpy())
    np.testing.assert_array_equal(found["i"], [3, 1])


def calls(function: Any, *arguments: Any) -> bytes:
    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return function, arguments

    return pickle.dumps({"v_template": Call()}, 2)


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the file `marker`, each by another way."""
    command = f"touch {marker}"
    source = f"__import__('os').system({command!r})"
    stack_global = (
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R."
    )
    inner_torch = io.BytesIO()
    torch.save({"a": _Evil(command)}, inner_torch, _use_new_zipfile_serialization=False)
    return {
        "os.system": calls(os.system, command),
        "eval": calls(eval, source),
        "exec": calls(exec, source),
        "getattr": calls(getattr, "text", "join"),
        "__import__": calls(__import__, "os"),
        "numpy.load": calls(np.load, str(marker), None, True),
        "numpy.fromfile": calls(np.fromfile, str(marker)),
        "reconstructor": calls(copyreg._reconstructor, type, object, None),
        "add_extension": calls(copyreg.add_extension, "os", "system", 1),
        "type": calls(type, "X", (), {}),
        "stack global": stack_global,
        "old instance": f"(S'{command}'\nios\nsystem\n.".encode(),
        "attribute path": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
        "extension code": b"\x80\x02\x82\x01.",
        "persistent id": b"Pos.system\n.",
        "torch load": calls(torch.load, str(marker)),
        "torch storage": calls(_rebuild, _storage(inner_torch.getvalue()), 0, (1,), (1,)),
    }


class _Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


_rebuild = torch._utils._rebuild_tensor_v2


class _storage:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.data,)


def test_hostile_pickles_are_refused_and_execute_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickles = hostile(marker)
    pickle.loads(pickles["os.system"])
    assert marker.exists()  # it does work where pickles are trusted
    marker.unlink()
    for name, data in pickles.items():
        with pytest.raises(ModelError):
            read(data)
        assert not marker.exists(), name


def test_the_refused_name_and_the_file_are_said() -> None:
    with pytest.raises(ModelError, match=r"file.pkl: refused, the pickle names (posix|nt)\.system"):
        read(calls(os.system, "true"))


def test_what_a_pickle_may_name_cannot_be_changed_by_it() -> None:
    # BUILD on a class with slot state sets attributes of the class itself
    attack = b"\x80\x02cnumpy\nndarray\nN}U\x04argsU\x04evils\x86b."
    other = pickle.dumps({"a": np.ones(2)}, 2)
    with pytest.raises(ModelError):
        read(attack)
    np.testing.assert_array_equal(read(other)["a"], np.ones(2))
    assert np.ones(2).sum() == 2


@pytest.mark.parametrize("state", ["objects as raw bytes", "too few bytes", "index outside"])
def test_arrays_that_lie_about_themselves_are_refused(state: str) -> None:
    if state == "index outside":
        matrix = scipy.sparse.csc_matrix(np.eye(3))
        matrix.indices[0] = 1000
        data = pickle.dumps(matrix, 2)
    elif state == "too few bytes":
        data = pickle.dumps(np.arange(3.0), 5).replace(b"K\x03\x85", b"K\x09\x85")
    else:
        data = pickle.dumps(np.arange(3.0), 2).replace(b"f8", b"O8")
    with pytest.raises(ModelError, match=r"file.pkl|objects"):
        read(data)


def test_damaged_pickles() -> None:
    whole = pickle.dumps(ARRAYS, 2)
    ends = [position for _, _, position in pickletools.genops(whole)]
    for end in [0, 1, *ends[1 :: len(ends) // 25]]:
        with pytest.raises(ModelError, match=r"file\.pkl"):
            read(whole[:end])


def test_npy_and_npz(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    regressor = scipy.sparse.csc_matrix(np.eye(3))
    np.savez(path, a=np.arange(3), J_regressor=np.array(regressor, dtype=object))
    found = read_npz(path)
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    np.testing.assert_array_equal(found["J_regressor"].toarray(), np.eye(3))
    assert read_npz(path, keys=("a",)).keys() == {"a"}
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"model.npz: not a readable .npz"):
        read_npz(path)


def test_hostile_npy(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "embedding.npy"
    np.save(path, np.array({"a": _Evil(f"touch {marker}")}, dtype=object), allow_pickle=True)
    with path.open("rb") as stream, pytest.raises(ModelError, match="system"):
        read_npy(stream, str(path))
    assert not marker.exists()
