"""Permutations that are functions, not lists: where row i of a shuffle lies, for any i at once.

A Feistel network over the fewest bits that hold n, walked along its cycles until it lands inside
0 … n - 1 (Black, Rogaway 2002, "Ciphers with arbitrary finite domains"), is a bijection that costs
nothing to set up, whatever n is. A round takes the high bits of a product with a random odd number
(multiplicative hashing, Knuth, TAOCP 3, 6.4).
"""

from __future__ import annotations

import numpy as np

from pipeline.types import Array

ROUNDS = 6


def mixed(values: Array) -> Array:
    """(N,) uint64 -> (N,) uint64 that look random; a bijection."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    scattered: Array = values ^ (values >> np.uint64(33))
    return scattered


def draws(key: tuple[int, ...], positions: Array) -> Array:
    """(N,) uint64 that look random, a function of the key and of each position alone."""
    salt = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return mixed(mixed(np.asarray(positions).astype(np.uint64) + salt) ^ salt)


def permuted(positions: Array, n: int, key: tuple[int, ...]) -> Array:
    """(N,) int64 in 0 … n - 1 -> their places in the permutation of n that `key` names."""
    bits = max(6, (n - 1).bit_length())  # with fewer, six rounds do not look random
    # widths of the halves, which every round swaps
    left_bits, right_bits = np.uint64(bits // 2), np.uint64(bits - bits // 2)
    low = (np.uint64(1) << right_bits) - np.uint64(1)
    highs = (np.uint64(64) - left_bits, np.uint64(64) - right_bits)
    salts = np.random.SeedSequence(key).generate_state(2 * ROUNDS, np.uint64).reshape(ROUNDS, 2)
    factors = salts[:, 1] | np.uint64(1)
    result = np.array(positions, np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        walked = result[outside]
        left, right = walked >> right_bits, walked & low
        for i, (salt, factor) in enumerate(zip(salts[:, 0], factors, strict=True)):
            left, right = right, left ^ ((right + salt) * factor >> highs[i % 2])
        walked = (left << right_bits) | right
        result[outside] = walked
        outside = outside[walked >= n]
    return result.astype(np.int64)
