"""The run in a few lines."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import credit_of, game
from rich.console import Console

from laurel.metrics import Metric
from laurel.runs import Run
from laurel.runs.summary import lengths, rewards
from laurel.tree import Ending, Outcome, Score


def test_a_failure_is_no_zero_in_the_mean_reward() -> None:
    assert rewards([game()]) == Metric(0.75, 1)  # 1 for winning, -0.25 on the way; the failed rollout is left out
    zero = game().with_outcomes({4: Outcome(Ending.TERMINATED, "end", Score(0.0))})
    assert rewards([zero]) == Metric(0.75, 2)
    ungraded = game().with_outcomes({3: Outcome(Ending.TERMINATED, "end")})
    assert rewards([ungraded]) == Metric(0.0, 0)


def test_lengths_count_what_the_policy_wrote() -> None:
    assert lengths([game()]) == Metric(5.0, 2)  # "5" and "3<eos>" on one path, "9<eos>" on the other


def test_the_summary_names_everything_that_matters(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        assert "none yet" in str(run.summary())
        better = replace(game(), id="2.0").with_outcomes({4: Outcome(Ending.TERMINATED, "end", Score(0.25))})
        run.record_evaluation(0, "held_out", Metric(1, 4))
        run.record_step(1, [game()], [credit_of(game())], {}, {}, events=[("retry", "once"), ("retry", "twice")])
        run.record_step(2, [better], [credit_of(better)], {}, {})
        run.record_evaluation(2, "held_out", Metric(3, 4))
        run.save_checkpoint(2, {}, {})
    lines = dict(run.summary().lines)
    assert lines["run"] == str(tmp_path / "run")
    assert lines["status"] == "finished"
    assert lines["steps"] == "2 (1 to 2)"
    assert lines["reward"] == "0.750 -> 0.500  (means of 1 and 2 rollouts)"
    assert lines["length"] == "2.500 -> 2.500  (means of 2 and 2 rollouts)"
    assert lines["held_out"] == "0.250 -> 0.750  (means of 4 and 4 answers)"
    assert lines["failures"].startswith("1 of 4 rollouts")
    assert lines["events"] == "2 retry"
    assert lines["checkpoints"] == "after step 2"
    assert "laurel export" in lines["next"]


@pytest.mark.parametrize(
    ("error", "says"), [(ValueError("boom"), "ValueError: boom"), (KeyboardInterrupt(), "--resume")]
)
def test_it_says_why_and_what_to_do(tmp_path: Path, error: BaseException, says: str) -> None:
    with pytest.raises(type(error)), Run.create(tmp_path / "run", {}) as run:
        raise error
    assert says in str(run.summary())
    assert "--resume" in str(run.summary())


def test_rich_draws_it(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        drawn = io.StringIO()
        Console(file=drawn, width=200).print(run.summary())
        assert "laurel show" in drawn.getvalue()
