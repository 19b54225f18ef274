"""Permutations that are functions, not lists: where row i of a shuffle lies, for any i at once.

A Feistel network over the smallest even number of bits that holds n, walked along its cycles until
it lands inside 0 … n - 1 (Black, Rogaway 2002, "Ciphers with arbitrary finite domains"), is a
bijection that costs nothing to set up, whatever n is. A round takes the high bits of a product with
a random odd number (multiplicative hashing, Knuth, TAOCP 3, 6.4).
"""

from __future__ import annotations

import numpy as np

from pipeline.types import Array

ROUNDS = 6


def mixed(values: Array) -> Array:
    """(N,) uint64 -> (N,) uint64 that look random; a bijection."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def draws(key: tuple[int, ...], positions: Array) -> Array:
    """(N,) uint64 that look random, a function of the key and of each position alone."""
    salt = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return mixed(mixed(np.asarray(positions).astype(np.uint64) + salt) ^ salt)


def permuted(positions: Array, n: int, key: tuple[int, ...]) -> Array:
    """(N,) int64 in 0 … n - 1 -> their places in the permutation of n that `key` names."""
    bits = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    half, high = np.uint64(bits), np.uint64(64 - bits)
    low = (np.uint64(1) << half) - np.uint64(1)
    salts = np.random.SeedSequence(key).generate_state(2 * ROUNDS, np.uint64).reshape(ROUNDS, 2)
    factors = salts[:, 1] | np.uint64(1)
    result = np.array(positions, np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        walked = result[outside]
        left, right = walked >> half, walked & low
        for salt, factor in zip(salts[:, 0], factors, strict=True):
            left, right = right, left ^ ((right + salt) * factor >> high)
        walked = (left << half) | right
        result[outside] = walked
        outside = outside[walked >= n]
    return result.astype(np.int64)
