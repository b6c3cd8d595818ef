"""Draws: the published vectors of SplitMix64, bit equality of numpy and torch, uniformity."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.rollout import rollout_key, torch_uniforms, uniforms

SIGNED = st.integers(-(2**63), 2**63 - 1)


def slow_uniform(key: int, position: int) -> float:
    """Unbounded integers, masked after each operation."""
    mask = 2**64 - 1
    z = (key + (position + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
    return ((z ^ z >> 31) >> 12) / 2**52 + 2.0**-53


def test_the_stream_of_key_0_is_that_of_splitmix64() -> None:
    # The first outputs of SplitMix64 seeded with 0, as in its reference implementation's test vectors.
    published = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F], dtype=np.uint64)
    expected = (published >> np.uint64(12)).astype(np.float64) / 2**52 + 2.0**-53
    assert np.array_equal(uniforms(np.zeros(3, np.int64), np.arange(3)), expected)


@given(st.lists(st.tuples(SIGNED, st.integers(0, 2**40)), min_size=1, max_size=8))
def test_numpy_and_torch_agree_in_every_bit(pairs: list[tuple[int, int]]) -> None:
    keys, positions = (np.array(part, np.int64) for part in zip(*pairs, strict=True))
    numbers = uniforms(keys, positions)
    assert np.array_equal(numbers, torch_uniforms(torch.from_numpy(keys), torch.from_numpy(positions)).numpy())
    assert numbers.tolist() == [slow_uniform(key, position) for key, position in pairs]
    assert ((numbers > 0) & (numbers < 1)).all()


def test_uniform_within_and_across_streams() -> None:
    keys = np.array([rollout_key(7, f"tree.{sample}") for sample in range(200)])
    numbers = uniforms(np.repeat(keys, 100), np.tile(np.arange(100), 200)).reshape(200, 100)
    for values in (numbers.ravel(), numbers[:, 0], numbers[0]):
        counts = np.histogram(values, bins=10, range=(0, 1))[0]
        expected = len(values) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 33.7  # chi-square, 9 degrees of freedom, p = 1e-4
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.03


def test_seed_and_name_both_count() -> None:
    assert len({rollout_key(seed, name) for seed in (0, 1, 10) for name in ("a.0", "a.1", "0a.0")}) == 9
    assert rollout_key(1, "a") == rollout_key(1, "a")
