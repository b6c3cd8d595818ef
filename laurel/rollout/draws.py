"""Random numbers that depend on nothing but the run's seed, the rollout's name and the position on its path.

A draw is a hash of a counter, so there is no generator whose state the composition of a batch could change:

    key         = first 8 bytes of BLAKE2b(seed, rollout id)
    z           = key + (position + 1) * 0x9E3779B97F4A7C15                       (mod 2^64)
    z           = (z ^ z >> 30) * 0xBF58476D1CE4E5B9,  z = (z ^ z >> 27) * 0x94D049BB133111EB,  z = z ^ z >> 31
    uniform     = (z >> 12) * 2^-52 + 2^-53                                        in (0, 1), both ends excluded

which is the output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators") at the counter `position` of the stream `key`. numpy (unsigned) and torch (signed, wrapping) do the same
integer arithmetic and agree in every bit, on every device with 64-bit integers and float64.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from laurel.tree import FloatArray, IntArray

_STRIDE = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def rollout_key(seed: int, rollout_id: str) -> int:
    """The stream of one rollout, as a signed 64-bit integer."""
    digest = hashlib.blake2b(f"{seed}\0{rollout_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def uniforms(keys: IntArray, positions: IntArray) -> FloatArray:
    """One number in (0, 1) per (key, position). Shapes [B] and [B], result [B] float64."""
    counters = np.asarray(positions, np.int64).astype(np.uint64) + np.uint64(1)
    z = np.asarray(keys, np.int64).view(np.uint64) + counters * np.uint64(_STRIDE)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    z = z ^ (z >> np.uint64(31))
    numbers: FloatArray = (z >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    return numbers


def torch_uniforms(keys: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """`uniforms`, bit for bit, on the tensors' device: [B] int64 and [B] int64 to [B] float64."""
    z = keys + (positions + 1) * _signed(_STRIDE)
    z = (z ^ _shifted(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shifted(z, 27)) * _signed(_MIX_2)
    z = z ^ _shifted(z, 31)
    return _shifted(z, 12).to(torch.float64) * 2.0**-52 + 2.0**-53


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts signed integers arithmetically: the copies of the sign bit are masked away.
    return (z >> bits) & ((1 << (64 - bits)) - 1)
