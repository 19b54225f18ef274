"""Arrays out of pickles without executing anything and without chumpy.

Nothing a pickle names is ever imported or called. Each name on a short list stands for a `Record`
made afresh for the file, which only remembers what it was given; any other name is refused. The
arrays are then rebuilt from the records. So the worst a file can do is to be refused.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import scipy.sparse
import torch

from pipeline.errors import ModelError
from pipeline.types import Array

# what a damaged or hostile pickle makes the unpickler, or the rebuilding of its arrays, raise
_FAULTS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Record:
    """Stands for an object of a pickle: remembers its arguments, its state and its items."""

    name: ClassVar[str]

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None
        self.items: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __call__(self, *args: Any) -> None:
        raise ModelError(f"the pickle calls an object of {self.name}; arrays need no such call")


class _RecordUnpickler(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, source: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._source = source
        self._records: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        known = _canonical(module, name)
        if known is None:
            raise ModelError(
                f"{self._source}: refused, the pickle names {module}.{name}, which no array needs "
                "and which could run code; use the file as its authors publish it"
            )
        return self._records.setdefault(known, type(name, (Record,), {"name": known}))


def _canonical(module: str, name: str) -> str | None:
    """The entry of `_REBUILD` that a pickle's global stands for, None where there is none."""
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    if module.startswith("numpy.core."):
        module = module.replace("numpy.core.", "numpy._core.")
    if re.fullmatch(r"scipy\.sparse(\._?cs[cr])?", module):
        module = "scipy.sparse"
    if module.split(".")[0] == "chumpy":
        return f"chumpy.{name}"
    known = f"{module}.{name}"
    return known if known in _REBUILD or known in _NAMED else None


def read_pickle(stream: BinaryIO, source: str, keys: Collection[str] | None = None) -> Any:
    """What a pickle holds, with numpy arrays, scipy sparse matrices and plain containers in it.

    Python 2 and 3, any protocol; chumpy objects come out as arrays. `keys` names the entries to
    rebuild where the pickle is a dictionary (all where None). Raises ModelError, which names
    `source`, for a damaged pickle or one that names anything else; nothing is executed.
    """
    try:
        found = _RecordUnpickler(stream, source).load()
        if isinstance(found, dict) and keys is not None:
            found = {key: found[key] for key in keys if key in found}
        return _plain(found)
    except _FAULTS as fault:
        raise ModelError(f"{source}: not a readable pickle of arrays ({fault})") from fault


def read_npy(stream: BinaryIO, source: str) -> Any:
    """An `.npy` file's array, or the object inside where it is a pickled one; see `read_pickle`."""
    start = stream.tell()
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = reader(stream)
        if not dtype.hasobject:
            stream.seek(start)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _FAULTS as fault:
        raise ModelError(f"{source}: not a readable .npy file ({fault})") from fault
    return read_pickle(stream, source)


def read_npz(path: Path, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The arrays of an `.npz` file by name, pickled ones read as `read_pickle` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            return {
                name[:-4]: read_npy(io.BytesIO(archive.read(name)), f"{path}: {name}")
                for name in names
                if keys is None or name[:-4] in keys
            }
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as fault:
        raise ModelError(f"{path}: not a readable .npz file ({fault})") from fault


def _plain(found: Any) -> Any:
    """Records -> arrays, through lists, tuples and dictionaries."""
    if isinstance(found, Record):
        if found.name.startswith("chumpy."):
            return _chumpy(found)
        return _REBUILD[found.name](found)
    if isinstance(found, dict):
        return {_plain(key): _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)([_plain(value) for value in found])
    return found


def _dtype(record: Any) -> np.dtype[Any]:
    code = record.args[0]
    if not re.fullmatch(r"[biufcSUO]\d*", code):
        raise ModelError(f"arrays of dtype {code!r} are not read from pickles, expected numbers")
    order = record.state[1] if record.state is not None else "="
    dtype: np.dtype[Any] = np.dtype(code).newbyteorder(order if order in ("<", ">") else "=")
    return dtype


def _bytes(data: Any) -> bytes:
    data = _plain(data)
    if not isinstance(data, bytes | bytearray | str):
        raise TypeError(f"raw bytes expected, got {type(data).__name__}")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _array(record: Record) -> Any:
    """numpy's state: version, shape, dtype, Fortran order, raw bytes (a list for objects)."""
    _, shape, dtype_record, fortran, data = record.state
    dtype = _dtype(dtype_record)
    if not dtype.hasobject:
        flat = np.frombuffer(_bytes(data), dtype)
        return flat.reshape(shape, order="F" if fortran else "C").copy()
    values = [_plain(value) for value in data]
    if shape == ():
        return values[0]
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects.reshape(shape, order="F" if fortran else "C")


def _buffer_array(record: Record) -> Array:
    """Protocol 5: buffer, dtype, shape, order."""
    data, dtype, shape, order = record.args
    flat = np.frombuffer(_bytes(data), _plain_dtype(dtype))
    return flat.reshape(shape, order=order).copy()


def _plain_dtype(record: Any) -> np.dtype[Any]:
    dtype = _dtype(record)
    if dtype.hasobject:
        raise ModelError("an array of objects claims to be raw bytes")
    return dtype


def _scalar(record: Record) -> Any:
    dtype, data = record.args
    return np.frombuffer(_bytes(data), _plain_dtype(dtype))[0]


def _sparse(record: Record) -> Any:
    state = _plain(record.state)
    rows = record.name.startswith("scipy.sparse.csr")
    make = scipy.sparse.csr_matrix if rows else scipy.sparse.csc_matrix
    shape = state["_shape"] if "_shape" in state else state["shape"]
    matrix = make((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix


def _chumpy(record: Record) -> Array:
    """The value of a chumpy object: its array `x`, or a selection or reshaping of another's."""
    state = record.state
    if "x" in state:
        return np.asarray(_plain(state["x"]))
    if record.name == "chumpy.Select":
        picked = np.asarray(_plain(state["a"])).ravel()[np.asarray(_plain(state["idxs"]))]
        shape = state.get("preferred_shape")
        return np.asarray(picked if shape is None else picked.reshape(_plain(shape)))
    if record.name == "chumpy.Reshape":
        return np.asarray(_plain(state["a"])).reshape(_plain(state["newshape"]))
    raise ModelError(f"a {record.name} cannot be read without chumpy; save its array instead")


def _reconstructed(record: Record) -> Any:
    """copyreg's way to make an object: its class, a base, the base's state."""
    made = record.args[0]()
    made.state = record.state
    return _plain(made)


def _tensor(record: Record) -> Array:
    """A CPU tensor: storage, offset, size, stride; torch reads the storage, weights only."""
    storage, offset, size, stride = record.args[:4]
    if not isinstance(storage, Record) or storage.name != "torch.storage._load_from_bytes":
        raise ModelError("a tensor without a storage of its own")
    loaded = torch.load(io.BytesIO(_bytes(storage.args[0])), map_location="cpu", weights_only=True)
    flat = torch.tensor([], dtype=loaded.dtype)
    return flat.set_(loaded, offset, size, stride).clone().numpy()


_REBUILD: dict[str, Callable[[Record], Any]] = {
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _buffer_array,
    "scipy.sparse.csc_matrix": _sparse,
    "scipy.sparse.csr_matrix": _sparse,
    "scipy.sparse.csc_array": _sparse,
    "scipy.sparse.csr_array": _sparse,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "collections.OrderedDict": lambda record: _plain(record.items),
    "builtins.set": lambda record: _plain(list(*record.args)),
    "builtins.bytes": lambda record: _bytes(record.args[0] if record.args else b""),
    "builtins.bytearray": lambda record: _bytes(record.args[0] if record.args else b""),
    "copyreg._reconstructor": _reconstructed,
    "_codecs.encode": lambda record: str(record.args[0]).encode("latin1"),
}
# these only occur as arguments of the ones above
_NAMED = ("numpy.ndarray", "numpy.dtype", "builtins.object", "torch.storage._load_from_bytes")
