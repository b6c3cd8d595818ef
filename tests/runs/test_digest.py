"""The digest sees everything that has to repeat, and nothing else."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded import credit_of, game

from laurel.algorithms.algorithm import Credit
from laurel.metrics import Metric
from laurel.runs import Run
from laurel.tree import Tree


def digest(
    directory: Path,
    tree: Tree | None = None,
    credit: Credit | None = None,
    metric: float = 1.0,
    evaluation: float = 1.0,
    seconds: float = 1.0,
    text: str = "x",
) -> str:
    tree = tree or game()
    with Run.create(directory, {"run": str(directory)}) as run:
        timings, events = {"seconds": seconds}, [("note", text)]
        run.record_step(1, [tree], [credit or credit_of(tree)], {"a": Metric(metric, 2)}, timings, events=events)
        run.record_evaluation(1, "held_out", Metric(evaluation, 2), [game()])
    return run.digest()


def changed(place: int, **fields: object) -> Tree:
    segments = list(game().segments)
    segments[place] = replace(segments[place], **fields)
    return replace(game(), segments=tuple(segments))


def test_equal_runs_have_equal_digests_whatever_the_time(tmp_path: Path) -> None:
    assert digest(tmp_path / "a") == digest(tmp_path / "b", seconds=9.0, text="another")


@pytest.mark.parametrize(
    "difference",
    [
        {"metric": np.nextafter(1.0, 2.0)},
        {"evaluation": np.nextafter(1.0, 2.0)},
        {"tree": changed(1, tokens=np.array([19]))},
        {"tree": changed(1, text="6")},
        {"tree": changed(1, sampler_log_probs=np.nextafter(np.float32([-0.7]), np.float32(0)))},
        {"tree": changed(1, policy_version=4)},
        {"tree": changed(2, reward=-0.5)},
        {"tree": changed(4, outcome=None)},
        {"credit": credit_of(game(), np.nextafter(0.5, 1.0))},
        {"credit": Credit(credit_of(game()).advantages, np.zeros(8, bool))},
    ],
)
def test_any_difference_shows(tmp_path: Path, difference: dict[str, object]) -> None:
    assert digest(tmp_path / "a") != digest(tmp_path / "b", **difference)  # type: ignore[arg-type]


def test_a_step_has_its_own_digest(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        for step, value in ((1, 1.0), (2, 2.0)):
            run.record_step(step, [], [], {"a": Metric(value, 1)}, {})
    assert len({run.digest(), run.digest(1), run.digest(2)}) == 3
    assert run.digest(3) == run.digest(4)


def test_the_version_of_zlib_does_not_matter(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.record_step(1, [game()], [credit_of(game())], {}, {})
        before = run.digest()
        with run._transaction():
            (mask,) = run._connection.execute("SELECT mask FROM trees").fetchone()
            again = mask[:2] + zlib.compress(zlib.decompress(mask[2:]), 9)
            assert again != mask
            run._connection.execute("UPDATE trees SET mask = ?", (again,))
        assert run.digest() == before
