"""Validity and visibility as the store packs them: one bit a vertex, and parts: one a pixel."""

from __future__ import annotations

import numpy as np

from pipeline.types import Array


def pack_validity(validity: Array) -> Array:
    """(…,V) bool -> (…,⌈V/8⌉) uint8, lowest bit first."""
    return np.packbits(validity, axis=-1, bitorder="little")


def unpack_validity(packed: Array, n_vertices: int) -> Array:
    """(…,⌈V/8⌉) uint8 -> (…,V) bool."""
    bits = np.unpackbits(packed, axis=-1, count=n_vertices, bitorder="little")
    return bits.view(np.bool_)
