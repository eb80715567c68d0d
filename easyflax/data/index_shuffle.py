"""The order in which grain shuffles, for a whole pass at once.

grain asks a block cipher where each single row goes. The cipher permutes the numbers of an even count of
bits, at least 16; a result beyond the last row is encrypted again until it is a row. Here it runs on arrays.

Source: Beaulieu et al. 2013, "The SIMON and SPECK families of lightweight block ciphers",
    https://eprint.iacr.org/2013/404; Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

MOST_ROWS = 2**30  # so that a half of a block has at most 16 bits
CHUNK = 2**16
ROUNDS = 4


@functools.lru_cache(maxsize=4)  # of a pass that ends and one that begins, shuffled twice
def grain_order(num_rows: int, seed: int) -> np.ndarray:
    """Returns the row numbers in the order of a pass that grain shuffles with a seed.

    Args:
        num_rows: rows of the data, from 1 to `MOST_ROWS`.
        seed: of the pass, in `[0, 2**32)`.

    Returns:
        `(num_rows,)` uint32, read-only.

    Examples:
        >>> sorted(grain_order(5, seed=1).tolist())
        [0, 1, 2, 3, 4]
    """
    if num_rows == 1:
        return np.zeros(1, np.uint32)
    bits = int(np.ceil(np.log2(num_rows - 1)))
    encrypt = _cipher(max(bits + bits % 2, 16) // 2, round_keys(seed))
    order = _by_doubling(num_rows, encrypt) if num_rows <= CHUNK else _by_walking(num_rows, encrypt)
    order.flags.writeable = False
    return order


def _by_doubling(num_rows: int, encrypt: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Encrypts all numbers of 16 bits, and doubles in each round how far each of them walks."""
    walked = encrypt(np.arange(CHUNK, dtype=np.uint32))
    while (walked[:num_rows] >= num_rows).any():
        beyond = walked >= num_rows
        walked[beyond] = walked[walked[beyond]]
    return walked[:num_rows].copy()


def _by_walking(num_rows: int, encrypt: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    order = np.empty(num_rows, np.uint32)
    for begin in range(0, num_rows, CHUNK):
        rows = encrypt(np.arange(begin, min(begin + CHUNK, num_rows), dtype=np.uint32))
        beyond = np.flatnonzero(rows >= num_rows)
        while beyond.size:
            rows[beyond] = encrypt(rows[beyond])
            beyond = beyond[rows[beyond] >= num_rows]
        order[begin : begin + CHUNK] = rows
    return order


def _cipher(half: int, keys: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the cipher for numbers of two halves of `half` bits, at most 16."""
    mask = 2**half - 1
    numbers = np.arange(mask + 1, dtype=np.uint32)

    def rotated(by: int) -> np.ndarray:
        return ((numbers << by) | (numbers >> (half - by))) & mask

    mixed = (rotated(1) & rotated(8)) ^ rotated(2)

    def encrypt(values: np.ndarray) -> np.ndarray:
        left, right = (values >> half) & mask, values & mask
        for first, second in zip(keys[::2], keys[1::2]):
            left = left ^ mixed[right] ^ np.uint32(first & mask)
            right = right ^ mixed[left] ^ np.uint32(second & mask)
        return (left << half) | right

    return encrypt


def round_keys(seed: int) -> list[int]:
    """Returns the keys of the rounds: what `std::seed_seq{seed}` of C++ generates.

    Source: ISO/IEC 14882:2011, 26.5.7.1.
    """
    count, words = ROUNDS, 2**32
    shift = (count - 1) // 2
    near = (count - shift) // 2
    far = near + shift
    keys = [0x8B8B8B8B] * count
    for k in range(2 * count):
        here, there, before = keys[k % count], keys[(k + near) % count], keys[(k - 1) % count]
        if k < count:
            value = here ^ there ^ before
            value = 1664525 * (value ^ (value >> 27)) % words
            last = (value + (1 if k == 0 else k + seed if k == 1 else k)) % words
            keys[(k + near) % count] = (there + value) % words
            keys[(k + far) % count] = (keys[(k + far) % count] + last) % words
        else:
            value = (here + there + before) % words
            value = 1566083941 * (value ^ (value >> 27)) % words
            last = (value - k % count) % words
            keys[(k + near) % count] = there ^ value
            keys[(k + far) % count] ^= last
        keys[k % count] = last
    return keys
