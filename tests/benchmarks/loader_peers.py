"""The same scans as other formats keep them: how each is written and read back in batches.

Every way gets its best: one record a scan where the format has records, no compression, no
worker processes, views instead of copies where it hands them out.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from loader_stores import BATCH, BLOCK, NAMES, Gather

from pipeline.store import fields, open_store
from pipeline.types import Array

RECORD = np.dtype([(name, fields()[name].dtype, fields()[name].shape) for name in NAMES])
"""One scan as one piece of memory."""
FILE_BYTES = 64 << 20
"""Of formats that make several files."""
SHUFFLE_BUFFER = 1024
Batches = Iterator[dict[str, Any]]
"""Without end, in an order of their own; "row" says which rows a batch has."""


def available(
    makers: dict[str, Callable[[Path, Path], Any]], folder: Path, version: Path
) -> dict[str, Any]:
    """What each maker makes of the store; the ones that are not installed are told and left out."""
    made = {}
    for name, make in makers.items():
        try:
            with contextlib.redirect_stdout(sys.stderr):  # some tell how far they are
                made[name] = make(folder / name.split()[0], version)
        except (ImportError, RuntimeError) as error:  # torchvision of another torch is the latter
            print(f"{name} is left out: {error}", file=sys.stderr)
    return made


def records(version: Path) -> Iterator[tuple[int, Array]]:
    """Row and record () of every scan, in order."""
    store = open_store(version)
    for start in range(0, len(store), BLOCK):
        values = store.read_fields(NAMES, slice(start, start + BLOCK))
        block = np.empty(len(values[NAMES[0]]), RECORD)
        for name in NAMES:
            block[name] = values[name]
        yield from ((start + i, block[i]) for i in range(len(block)))


def collated(samples: Sequence[Any]) -> dict[str, Array]:
    return {name: np.stack([sample[name] for sample in samples]) for name in NAMES}


def unpacked(content: Any) -> Any:
    """A record's bytes -> the record, without a copy."""
    return np.frombuffer(content, RECORD)[0]


def zarr_python(folder: Path, version: Path) -> Gather:
    """Our own store's files."""
    import zarr

    group = zarr.open_group(version, mode="r")
    arrays: dict[str, Any] = {name: group[name] for name in NAMES}
    return lambda rows: {name: array.oindex[rows] for name, array in arrays.items()}


def tensorstore_zarr3(folder: Path, version: Path) -> Gather:
    """Our own store's files, all fields at once."""
    import tensorstore

    def opened(name: str) -> Any:
        files = {"driver": "file", "path": str(version / name)}
        return tensorstore.open({"driver": "zarr3", "kvstore": files}, read=True).result()

    arrays = {name: opened(name) for name in NAMES}

    def gather(rows: Array) -> dict[str, Any]:
        reads = {name: array[rows].read() for name, array in arrays.items()}
        return {name: read.result() for name, read in reads.items()}

    return gather


def lmdb_records(folder: Path, version: Path) -> Gather:
    import lmdb

    size = 2 * len(open_store(version)) * RECORD.itemsize + (1 << 24)
    with lmdb.open(str(folder), map_size=size, sync=False) as written:
        for row, record in records(version):
            with written.begin(write=True) as transaction:
                transaction.put(row.to_bytes(8, "big"), record.tobytes())
        written.sync(True)
    reading = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    transaction = reading.begin(buffers=True)

    def gather(rows: Array) -> dict[str, Any]:
        keys = (row.to_bytes(8, "big") for row in rows.tolist())
        return collated([unpacked(transaction.get(key)) for key in keys])

    return gather


def mds(folder: Path, version: Path) -> Gather:
    """MosaicML's LocalDataset, which is what StreamingDataset does with a sample, without its
    processes' shared memory. It needs a torchvision that was built for the torch that is there."""
    from streaming import LocalDataset, MDSWriter

    schema = fields()
    columns = {
        name: "ndarray:" + ":".join([np.dtype(field.dtype).name, ",".join(map(str, field.shape))])
        for name, field in schema.items()
        if name in NAMES
    }
    with MDSWriter(out=str(folder), columns=columns, size_limit=FILE_BYTES) as writer:
        for _, record in records(version):
            writer.write({name: record[name] for name in NAMES})
    dataset = LocalDataset(str(folder))
    return lambda rows: collated([dataset[row] for row in rows.tolist()])


def huggingface_arrow(folder: Path, version: Path) -> Gather:
    """One binary column, the fastest of its kinds."""
    import datasets

    datasets.disable_progress_bars()
    dataset = datasets.Dataset.from_generator(
        lambda: ({"record": record.tobytes()} for _, record in records(version)),
        features=datasets.Features({"record": datasets.Value("binary")}),
        cache_dir=str(folder),
    )
    return lambda rows: collated([unpacked(content) for content in dataset[rows]["record"]])


def hdf5(folder: Path, version: Path) -> Gather:
    """Fancy indexing, which wants rows in ascending order and once each."""
    import h5py

    folder.mkdir()
    store = open_store(version)
    with h5py.File(folder / "scans.h5", "w") as written:
        for name in NAMES:
            field = store.fields[name]
            array = written.create_dataset(name, (len(store), *field.shape), field.dtype)
            for start in range(0, len(store), BLOCK):
                array[start : start + BLOCK] = store.read(name, slice(start, start + BLOCK))
    file = h5py.File(folder / "scans.h5")
    arrays = {name: file[name] for name in NAMES}

    def gather(rows: Array) -> dict[str, Any]:
        ascending, back = np.unique(rows, return_inverse=True)
        return {name: array[ascending][back] for name, array in arrays.items()}

    return gather


def npz_files(folder: Path, version: Path) -> Gather:
    """MICA's way: a file a scan."""
    folder.mkdir()
    for row, record in records(version):
        np.savez(folder / f"{row}.npz", **{name: record[name] for name in NAMES})

    def sample(row: int) -> dict[str, Array]:
        with np.load(folder / f"{row}.npz") as file:
            return {name: file[name] for name in NAMES}

    return lambda rows: collated([sample(row) for row in rows.tolist()])


def litdata_own_shuffle(folder: Path, version: Path) -> Batches:
    import litdata

    litdata.optimize(
        fn=partial(_litdata_sample, open_store(version)),
        inputs=list(range(len(open_store(version)))),
        output_dir=str(folder),
        chunk_bytes=FILE_BYTES,
        num_workers=1,
        start_method="fork",
    )
    dataset = litdata.StreamingDataset(str(folder), shuffle=True)
    loader = litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0)
    return (batch for _ in iter(int, 1) for batch in loader)


def _litdata_sample(store: Any, row: int) -> dict[str, Any]:
    return {"row": row, **{name: store.row(name, row) for name in NAMES}}


def webdataset_buffer(folder: Path, version: Path) -> Batches:
    import webdataset

    folder.mkdir()
    shards = str(folder / "%06d.tar")
    with webdataset.ShardWriter(shards, maxsize=FILE_BYTES, verbose=0) as writer:
        for row, record in records(version):
            arrays = {f"{name}.npy": record[name] for name in NAMES}
            writer.write({"__key__": str(row), **arrays})
    files = sorted(map(str, folder.glob("*.tar")))
    dataset = webdataset.WebDataset(files, shardshuffle=len(files)).shuffle(SHUFFLE_BUFFER)
    batches = dataset.decode().batched(BATCH, partial=False)

    def renamed(batch: dict[str, Any]) -> dict[str, Any]:
        arrays = {name: np.asarray(batch[f"{name}.npy"]) for name in NAMES}
        return {"row": np.array(batch["__key__"], int), **arrays}

    return (renamed(batch) for _ in iter(int, 1) for batch in batches)


BY_ROWS: dict[str, Callable[[Path, Path], Gather]] = {
    "zarr-python oindex": zarr_python,
    "tensorstore zarr3": tensorstore_zarr3,
    "LMDB": lmdb_records,
    "MDS": mds,
    "HF datasets": huggingface_arrow,
    "HDF5 fancy index": hdf5,
    "npz a scan": npz_files,
}
IN_THEIR_ORDER: dict[str, Callable[[Path, Path], Batches]] = {
    "LitData shuffle=True": litdata_own_shuffle,
    f"WebDataset buffer {SHUFFLE_BUFFER}": webdataset_buffer,
}
