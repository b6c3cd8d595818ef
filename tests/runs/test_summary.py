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
from laurel.tree import Ending, Outcome, Score


def test_the_summary_names_everything_that_matters(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        assert "none yet" in str(run.summary())
        better = replace(game(), id="2.0").with_outcomes({4: Outcome(Ending.TERMINATED, "end", Score(0.25))})
        run.record_evaluation(0, "held_out", Metric(1, 4))
        # Two rollouts of each step were drawn in groups that were discarded: the metrics count them, the trees do not.
        first = {"reward": Metric(0.75, 3), "answer_tokens": Metric(10.0, 4)}
        last = {"reward": Metric(1.0, 2), "answer_tokens": Metric(5.0, 2)}
        lost = replace(game(), id="1.1")
        events = [("skipped", "once"), ("skipped", "twice")]
        run.record_step(1, [game()], [credit_of(game())], first, {}, discarded=[lost], events=events)
        run.record_step(2, [better], [credit_of(better)], last, {})
        run.record_evaluation(2, "held_out", Metric(3, 4))
        run.save_checkpoint(2, {}, {})
    lines = dict(run.summary().lines)
    assert lines["run"] == str(tmp_path / "run")
    assert lines["status"] == "finished"
    assert lines["steps"] == "2 (1 to 2)"
    assert lines["reward"] == "0.250 -> 0.500  (means of 3 and 2 rollouts)"
    assert lines["length"] == "2.500 -> 2.500  (means of 4 and 2 rollouts)"
    assert lines["held_out"] == "0.250 -> 0.750  (means of 4 and 4 tasks)"
    assert lines["failures"].startswith("2 of 6 rollouts")
    assert lines["events"] == "2 skipped"
    assert "failed answers" not in lines
    assert lines["checkpoints"] == "after step 2"
    assert "laurel export" in lines["next"]


def test_failures_in_evaluations_are_shown(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.record_evaluation(0, "held_out", Metric(1, 1), [replace(game(), id="evaluation.0")])
        run.record_step(1, [game()], [credit_of(game())], {}, {})
        run.record_evaluation(1, "other", Metric(1, 1), [replace(game(), id="evaluation.1")])
    assert run.failures() == (1, 2)
    assert run.evaluation_failures() == (2, 4)
    assert dict(run.summary().lines)["failed answers"] == "2 of 4 in evaluations (they are in no mean)"


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
