"""Runs: created, written, read while written, resumed, refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import STEPS, assert_same_tree, credit_of, fork, game, toy_loop, wait

from laurel.algorithms.algorithm import Credit
from laurel.errors import ConfigurationError, RunError
from laurel.metrics import Metric
from laurel.runs import Evaluation, Run, Status, current_versions, is_run, open_run


def record(run: Run, step: int, trees: int = 2, **metrics: Metric) -> None:
    made = [game(f"{step}.{place}") for place in range(trees)]
    run.record_step(step, made, [credit_of(tree) for tree in made], metrics, {"seconds": 0.5})


def save(run: Run, step: int) -> Path:
    return run.save_checkpoint(step, {"policy": {"weights": torch.full((2,), float(step))}}, {"step": step})


def as_a_stranger(act: Callable[[], object]) -> None:
    """Act without the rights of the superuser, whom no directory stops."""

    def child() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        act()

    assert wait(fork(child)) == 0


def test_a_step_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    tree, left_out = game("1.0"), game("1.1")
    with Run.create(tmp_path / "run", {"seed": 3}) as run:
        metrics = {"reward": Metric(3.0, 4), "nothing": Metric(float("nan"), 0)}
        events = [("skipped", "no rollout was graded")]
        run.record_step(
            1, [tree], [credit_of(tree)], metrics, {"sampling": 0.25}, discarded=[left_out], events=events
        )  # fmt: skip
        run.record_evaluation(1, "held_out", Metric(1.0, 2), [game("evaluation.1")])
    assert run.steps() == [1]
    assert run.metric("reward") == [(1, Metric(3.0, 4))]
    ((step, metric),) = run.metric("nothing")
    assert step == 1 and np.isnan(metric.sum) and metric.count == 0
    assert run.metric("unknown") == []
    assert run.metric_names() == ["nothing", "reward"]
    assert run.timings(1) == {"sampling": 0.25}
    assert_same_tree(run.trees(1)[0], tree)
    assert_same_tree(run.discarded(1)[0], left_out)
    assert [answer.id for answer in run.evaluation_trees("held_out", 1)] == ["evaluation.1"]
    assert run.evaluations() == [Evaluation("held_out", 1, Metric(1.0, 2))]
    (credit,) = run.credits(1)
    np.testing.assert_array_equal(credit.advantages, [0, 0, 0.5, 0, 0.5, 0.5, 0.5, 0.5])
    (event,) = run.events()
    assert (event.kind, event.text, event.step) == ("skipped", "no rollout was graded", 1)
    assert run.configuration == {"seed": 3}
    assert run.versions == current_versions()
    assert run.failures() == (2, 4)  # a rollout of the tree that was learned from, and one of the discarded
    assert run.trees(2) == [] and run.credits(2) == []


def test_a_step_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        record(run, 1)
        with pytest.raises(RunError, match="aligned"):
            run.record_step(2, [game()], [Credit(np.zeros(3), np.zeros(3, bool))], {"a": Metric(1, 1)}, {})
        with pytest.raises(RunError, match="called twin"):
            run.record_step(2, [], [], {"a": Metric(1, 1)}, {}, discarded=[game("twin"), game("twin")])
        assert run.steps() == [1] and run.metric("a") == []
        record(run, 2)
    assert run.steps() == [1, 2]


@pytest.mark.parametrize("step", [1, 2])
def test_no_step_is_recorded_twice_or_out_of_order(tmp_path: Path, step: int) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        record(run, 2)
        run.record_evaluation(2, "held_out", Metric(1, 1))
        with pytest.raises(RunError, match=f"Step {step} cannot be recorded: the last recorded one is 2"):
            record(run, step)
        with pytest.raises(RunError, match="held_out of step 2 is recorded already"):
            run.record_evaluation(2, "held_out", Metric(1, 1))


def test_resuming_goes_back_to_the_checkpoint_and_says_so(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        for step in (1, 2, 3, 4):
            record(run, step, reward=Metric(step, 1))
            run.record_evaluation(step, "held_out", Metric(step, 1), [game()])
            if step == 2:
                save(run, step)
    resumed = Run.resume(tmp_path / "run")
    assert resumed.resumed_from == 2
    assert resumed.steps() == [1, 2] and resumed.trees(3) == []
    assert resumed.metric("reward") == [(1, Metric(1, 1)), (2, Metric(2, 1))]
    assert [e.step for e in resumed.evaluations()] == [1, 2] and resumed.evaluation_trees("held_out", 4) == []
    (event,) = resumed.events("resumed")
    assert event.text == "from the checkpoint of step 2; 2 later steps removed"
    record(resumed, 3)
    assert resumed.status == Status("running")
    resumed.close()


def test_without_a_checkpoint_resuming_starts_again(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.record_evaluation(0, "held_out", Metric(0, 1))
        record(run, 1)
    with Run.resume(tmp_path / "run") as resumed:
        assert resumed.resumed_from is None and resumed.load_checkpoint() is None
        assert resumed.steps() == [] and resumed.evaluations() == []
        assert "no checkpoint" in resumed.events("resumed")[0].text


def test_a_torn_checkpoint_is_skipped_with_an_event(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        for step in (1, 2):
            record(run, step)
            torn = save(run, step)
    os.truncate(torn / "policy.safetensors", 5)
    with Run.open(tmp_path / "run") as reader:
        checkpoint = reader.load_checkpoint()
        assert checkpoint is not None and checkpoint.step == 1 and "step 2 skipped" in checkpoint.notes[0]
    with Run.resume(tmp_path / "run") as resumed:
        assert resumed.resumed_from == 1
        assert "step 2 skipped: policy.safetensors has 5 bytes" in resumed.events("damaged")[0].text
        record(resumed, 2)
        save(resumed, 2)
        assert resumed.checkpoint_steps == [1, 2]


def test_all_checkpoints_torn_is_an_error_and_removes_nothing(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        record(run, 1)
        torn = save(run, 1)
    (torn / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"No checkpoint .* is whole"):
        Run.resume(tmp_path / "run")
    assert run.steps() == [1]
    assert run.status.state == "finished"


def test_a_copy_without_its_log_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    record(run, 1)
    run.close()  # brings the log home
    run = Run.resume(tmp_path / "run")
    record(run, 1)
    record(run, 2)
    save(run, 2)
    shutil.copytree(tmp_path / "run", tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    run.close()
    with pytest.raises(RunError, match="checkpoint of step 2, but its last recorded step is 1"):
        Run.resume(tmp_path / "copy")


def test_the_status_follows_the_block(tmp_path: Path) -> None:
    with Run.create(tmp_path / "finished", {}) as finished:
        assert finished.status == Status("running")
        assert Run.open(tmp_path / "finished").status == Status("running")
    assert finished.status == Status("finished")
    with pytest.raises(ValueError, match="boom"), Run.create(tmp_path / "failed", {}) as failed:
        raise ValueError("boom")
    assert failed.status == Status("failed", "ValueError: boom")
    with pytest.raises(KeyboardInterrupt), Run.create(tmp_path / "stopped", {}) as stopped:
        raise KeyboardInterrupt
    assert stopped.status.state == "interrupted"
    closed = Run.create(tmp_path / "closed", {})
    closed.close()
    assert Run.open(tmp_path / "closed").status.state == "interrupted"
    with Run.resume(tmp_path / "failed") as again:
        assert again.status == Status("running")


def test_a_reader_writes_nothing_and_one_writer_excludes_another(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        reader = Run.open(tmp_path / "run")
        with pytest.raises(RunError, match="reading only"):
            record(reader, 1)
        with pytest.raises(RunError, match="reading only"):
            save(reader, 1)
        record(run, 1)
        assert reader.steps() == [1]
        with pytest.raises(RunError, match=f"process {os.getpid()} "):
            Run.resume(tmp_path / "run")
        reader.close()
    with pytest.raises(RunError, match="reading only"):
        record(run, 2)


def test_another_process_reads_while_one_writes(tmp_path: Path) -> None:
    directory, enough = tmp_path / "run", tmp_path / "enough"

    def write() -> None:
        with Run.create(directory, {}) as run:
            for step in range(1, 10_000):
                record(run, step, trees=5, reward=Metric(step, 1))
                if enough.exists():
                    break

    pid, seen = fork(write), set[int]()
    while len(seen) < 5:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the writer died"
        if is_run(directory):
            with Run.open(directory) as run:
                for step in run.steps()[-1:]:
                    assert len(run.trees(step)) == len(run.credits(step)) == 5
                    assert run.metric("reward")[step - 1] == (step, Metric(step, 1))
                    seen.add(step)
    enough.touch()
    assert wait(pid) == 0


def test_open_run_creates_or_resumes(tmp_path: Path) -> None:
    configuration = {"steps": 10, "algorithm": {"name": "grpo", "clip": 0.2}}
    with open_run(tmp_path / "deep" / "run", configuration, resume=True) as run:
        record(run, 1)
    with pytest.raises(RunError, match="holds a run already") as error:
        open_run(tmp_path / "deep" / "run", configuration)
    assert "--resume" in str(error.value)
    with open_run(tmp_path / "deep" / "run", configuration, resume=True) as run:
        assert len(run.events("resumed")) == 1
    other = {"steps": 20, "algorithm": {"name": "grpo", "clip": 0.3}}
    with pytest.raises(ConfigurationError, match=r"other settings: algorithm\.clip was 0\.2, now 0\.3\."):
        open_run(tmp_path / "deep" / "run", other, resume=True, may_differ=("steps",))
    assert run.status.state == "finished"
    longer = {**configuration, "steps": 20}
    with open_run(tmp_path / "deep" / "run", longer, resume=True, may_differ=("steps",)) as run:
        assert run.configuration == longer
        assert "steps was 10, now 20" in run.events("warning")[0].text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert not is_run(tmp_path) and not is_run(tmp_path / "absent")
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match="is no run"):
            Run.open(directory)
    (tmp_path / "run.sqlite").write_bytes(b"not a database" * 100)
    assert not is_run(tmp_path)
    with pytest.raises(RunError, match="not a database") as error:
        Run.open(tmp_path)
    assert error.value.hint is not None and "laurel train" in error.value.hint
    other = tmp_path / "other"
    other.mkdir()
    sqlite3.connect(other / "run.sqlite").execute("CREATE TABLE x (y)")
    with pytest.raises(RunError, match="no run of Laurel"):
        Run.resume(other)


def test_a_full_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(RunError, match=r"not empty: it holds thesis\.tex"):
        Run.create(tmp_path, {})
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(RunError, match="cannot be written: Not a directory"):
        Run.create(tmp_path / "thesis.tex" / "run", {})


def test_a_creation_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "run.sqlite").touch()
    assert not is_run(tmp_path)
    with open_run(tmp_path, {}, resume=True) as run:
        assert run.steps() == []


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {}).close()
    for version, says in ((99, "newer"), (0, "older")):
        connection = sqlite3.connect(tmp_path / "run" / "run.sqlite")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(RunError, match=f"an? {says} Laurel .schema {version}"):
            Run.open(tmp_path / "run")


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        record(run, 1)
    for _ in range(2):
        assert sorted(os.listdir(tmp_path / "run")) == ["lock", "run.sqlite"]
        with Run.open(tmp_path / "run") as reader:
            assert reader.steps() == [1]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader._connection.execute("DELETE FROM steps")


def test_an_unwritable_directory_is_named_and_an_archived_run_is_readable() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders let no stranger through
        directory = Path(folder) / "run"
        with Run.create(directory, {}) as run:
            record(run, 1)
        Path(folder).chmod(0o555)
        directory.chmod(0o555)
        (directory / "lock").chmod(0o444)

        def look() -> None:
            with Run.open(directory) as archived:
                assert archived.steps() == [1] and archived.status.state == "finished"
            with pytest.raises(RunError, match="cannot be written: Permission denied"):
                Run.resume(directory)
            with pytest.raises(RunError, match="cannot be written: Permission denied"):
                Run.create(Path(folder) / "other", {})

        as_a_stranger(look)
        Path(folder).chmod(0o755)
        directory.chmod(0o755)


def test_a_configuration_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no JSON"):
        Run.create(tmp_path / "run", {"reward": print})
    with pytest.raises(RunError, match="lists and string keys"):
        Run.create(tmp_path / "run", {"a": (1, 2)})
    assert not (tmp_path / "run").exists()


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    run = toy_loop(tmp_path / "run")
    program = (
        "import sys; from laurel.runs import Run; run = Run.open(sys.argv[1]); print(run.summary()); run.trees(1);"
        "sys.exit('torch' in sys.modules)"
    )
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", program, str(run.directory)) == 0
    assert run.steps() == list(range(1, STEPS + 1))
