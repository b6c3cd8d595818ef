"""The commands from end to end, as a user sees them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import laurel, write_project, write_rows

from laurel import cli
from laurel.algorithms import METHODS
from laurel.runs import Run

RUN = Path("runs/sums")
COMMANDS = (
    "audit", "check", "demo", "eval", "explain", "export", "fit-reward-model", "judge", "label", "methods", "rlhf",
    "inspect-reward", "revise", "parts", "show", "train",
)  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_project(tmp_path)
    return tmp_path


@pytest.fixture
def trained(project: Path) -> Path:
    assert laurel("train", "recipe.yaml").status == 0
    return RUN


def outside(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Another interpreter, in the present directory."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_help_names_every_command_and_each_has_an_example() -> None:
    general = laurel("--help")
    assert general.status == 0
    for command in COMMANDS:
        assert re.search(rf"│ {command} +\w", general.out), command
        own = laurel(command, "--help")
        assert own.status == 0
        lines = [line.strip() for line in own.out.splitlines()]
        assert command == "methods" or any(line.startswith(f"laurel {command}") for line in lines), command


def test_every_command_has_its_namesake_in_python() -> None:
    import laurel as package

    commands = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert commands == {command.replace("-", "_") for command in COMMANDS}
    for name in commands:
        assert callable(getattr(package, name)), name
    # `from laurel import *` must not put another eval before Python's own.
    assert commands - set(package.__all__) == {"eval"}


def test_pages_are_the_same_from_python(trained: Path) -> None:
    import laurel as package

    printed = laurel("show", str(trained)).out
    assert str(package.show(trained)).splitlines() == [line.rstrip() for line in printed.rstrip().splitlines()]
    written = str(package.explain("recipe.yaml", ["samples_per_prompt=6"]))
    assert "4 prompts x 6 samples = 24, 4 steps" in written and "\x1b" not in written
    assert all(method().title in str(package.methods()) for method in METHODS.values())


def test_eval_and_export_from_python_are_those_of_the_commands(trained: Path) -> None:
    import laurel as package

    tasks = package.tasks.jsonl("held.jsonl")
    result = package.eval(trained, tasks, samples=3, seed=5)
    assert laurel("eval", str(trained), "--tasks", "held.jsonl", "--samples", "3", "--seed", "5").out.strip() == str(
        result
    )
    model = package.export(trained, "my-model")
    again = package.eval(f"./{model}", tasks, samples=3, seed=5, max_new_tokens=3, reward="exact_match")
    assert str(again) == str(result)
    policy = package.policy.load(model)
    assert str(package.eval(policy, tasks, samples=3, seed=5, max_new_tokens=3)) == str(result)


def test_importing_and_helping_load_neither_torch_nor_transformers() -> None:
    code = """
import sys
import laurel
from laurel.cli import main
for arguments in (["--help"], ["train", "--help"], ["eval", "--help"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
print(sorted({"torch", "transformers", "numpy"} & set(sys.modules)))
"""
    run = outside("-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_command_that_is_not_there_names_the_nearest() -> None:
    said = laurel("trian")
    assert said.status == 2
    assert "Did you mean 'train'?" in said.err


def test_methods_fit_into_eighty_columns() -> None:
    said = laurel("methods")
    assert said.status == 0
    assert max(map(len, said.out.splitlines())) <= 80
    flat = " ".join(said.out.split())
    for method in METHODS.values():
        algorithm = method()
        for text in (f"{algorithm.name}: {algorithm.title}", algorithm.equation, algorithm.paper):
            assert " ".join(text.split()) in flat


def test_explain_says_equation_settings_batch_memory_and_time(project: Path) -> None:
    said = laurel("explain", "recipe.yaml", "algorithm.kl=0.1", "samples_per_prompt=6")
    assert said.status == 0, said
    assert max(map(len, said.out.splitlines())) <= 80
    flat = " ".join(said.out.split())
    assert METHODS["grpo"](kl=0.1).equation.split(",")[0] in flat  # type: ignore[call-arg]
    for text in (
        "limits Limits(max_new_tokens=3",
        "optimiser OptimiserSettings(learning_rate=",
        "run runs/sums",
        "available held-out tasks",
        "missing dynamics",
        "available reference: the policy at the start",
        "4 prompts x 6 samples = 24, 4 steps",
        # 3 prompt tokens once and 6 times 3 answer tokens make 21 a tree; by rows 6 times 6.
        "at most 84 distinct ones (prompt 3, answer 3); row by row 144, 1.7 times as many",
        "together",
        "per step about",
        "GFLOP/s",
    ):
        assert text in flat, text
    assert not RUN.exists()


def test_explain_says_what_is_not_read() -> None:
    clone = ["algorithm=clone", "samples_per_prompt=null", "held_out=null", "reward=null", "limits=null"]
    flat = " ".join(laurel("explain", "recipe.yaml", *clone).out.split())
    assert "samples_per_prompt not read: 'clone' learns from demonstrations" in flat
    assert "evaluate_every not read: without held_out tasks" in flat
    assert "missing reward" in flat and "available demonstrations" in flat


def test_check_finds_a_reward_that_is_blind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = laurel("check", "recipe.yaml")
    assert sound.status == 0
    assert "gold: 40 of 40 score full marks" in sound.out
    assert "no prompt is in both" in sound.out
    assert "repeat the prompt" not in sound.out
    lines = (project / "train.jsonl").read_text().splitlines()
    (project / "train.jsonl").write_text("\n".join([*lines, lines[0], lines[1]]) + "\n")
    assert "2 tasks repeat the prompt of an earlier one" in laurel("check", "recipe.yaml").out
    (project / "train.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(project)
    (project / "blind.py").write_text("def reward(task, text):\n    return 1.0\n")
    blind = laurel("check", "recipe.yaml", "reward=blind:reward")
    assert blind.status == 1
    assert "WRONG empty: 0 of 40" in blind.out


def test_train_with_overrides_records_what_it_did(project: Path) -> None:
    said = laurel(
        "train", "recipe.yaml", "steps=2", "run=runs/mine", "algorithm.clip=0.3", "optimiser.learning_rate=1e-3"
    )
    assert said.status == 0, said
    with Run.open("runs/mine") as run:
        assert run.steps() == [1, 2]
        kept = run.configuration
    assert kept["steps"] == 2
    assert kept["optimiser"]["learning_rate"] == 1e-3
    assert kept["algorithm"]["objective"] == {"type": "ClippedRatio", "low": 0.3, "high": 0.3, "dual": None}
    assert kept["tasks"]["tasks"] == 40
    assert kept["policy"]["name"] == "tiny"


def test_a_run_is_named_after_its_recipe(project: Path) -> None:
    text = (project / "recipe.yaml").read_text().replace("run: runs/sums\n", "")
    (project / "sums_again.yaml").write_text(text)
    assert laurel("train", "sums_again.yaml", "steps=1").status == 0
    assert Path("runs/sums_again/run.sqlite").exists()


def test_what_nobody_watches_is_short_plain_and_undecorated() -> None:
    said = laurel("train", "recipe.yaml", "steps=30")
    assert "\x1b" not in said.out and said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "grpo: 30 steps"
    assert lines[1].startswith("  after step 0: held_out: ")
    assert any(re.match(r"  step 30/30  reward \d\.\d+  length .* tok/s  0:00:00 left$", line) for line in lines)
    # Steps are not listed one by one: one line now and then, the evaluations, and the summary.
    assert len(lines) < 25


def test_resume_goes_on_and_says_when_there_is_nothing_left(trained: Path) -> None:
    done = laurel("train", "recipe.yaml", "--resume")
    assert done.status == 0
    assert "All 4 steps were done already; steps=... goes further." in done.out
    further = laurel("train", "recipe.yaml", "steps=6", "--resume")
    assert further.status == 0
    assert "  step 6/6" in further.out and "step 4/6" not in further.out
    with Run.open(trained) as run:
        assert run.steps() == [1, 2, 3, 4, 5, 6]


def test_resume_without_a_run_starts_one(project: Path) -> None:
    assert laurel("train", "recipe.yaml", "--resume").status == 0
    with Run.open(RUN) as run:
        assert run.resumed_from is None and run.steps() == [1, 2, 3, 4]


def test_show_draws_a_finished_an_interrupted_and_a_running_run(trained: Path) -> None:
    shown = laurel("show", str(trained))
    assert shown.status == 0
    assert shown.out.startswith("grpo: Group-relative policy optimisation\n")
    for text in ("finished", "reward, by step", "held_out", "after step 2, 4", f"laurel export {trained}"):
        assert text in shown.out
    run = Run.resume(trained)
    try:
        assert "running" in laurel("show", str(trained)).out
    finally:
        run.close()
    shown = laurel("show", str(trained))
    assert "interrupted" in shown.out and "--resume" in shown.out


def test_an_exported_model_is_what_the_run_holds(trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from laurel.restoring import policy_of_run

    said = laurel("export", str(trained), "my-model")
    assert said.status == 0 and said.out.strip() == "written: my-model"
    assert said.err == ""  # no bars of transformers
    model = AutoModelForCausalLM.from_pretrained("my-model").eval()
    tokens = AutoTokenizer.from_pretrained("my-model")("12>", return_tensors="pt")["input_ids"]
    own = policy_of_run(trained)
    assert own.encode_prompt("12>").tolist() == tokens[0].tolist()
    named = dict(model.named_parameters())
    for name, tensor in own.tensors().items():
        assert torch.equal(named[name], tensor), name


def test_eval_of_a_run_and_of_its_export_agree_and_write_every_answer(trained: Path) -> None:
    laurel("export", str(trained), "my-model")
    options = ["--tasks", "held.jsonl", "--samples", "3", "--max-new-tokens", "3", "--seed", "5"]
    run = laurel("eval", str(trained), *options, "--output", "run.jsonl")
    model = laurel("eval", "./my-model", *options, "--output", "model.jsonl")
    assert run.status == model.status == 0
    assert run.err == model.err == ""
    score = re.match(r"held: (\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\] over 10 tasks\n", run.out)
    assert score
    mean, low, high = map(float, score.groups())
    assert low <= mean <= high
    assert run.out.splitlines()[0] == model.out.splitlines()[0]
    assert Path("run.jsonl").read_text() == Path("model.jsonl").read_text()
    answers = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [answer["task"] for answer in answers] == [f"held-{n}" for n in range(1, 11) for _ in range(3)]
    assert answers[0]["prompt"] == "40>" and answers[0]["reference"] == "4"
    assert all(answer["reward"] == float(answer["answer"] == answer["reference"]) for answer in answers)
    assert sum(answer["reward"] for answer in answers) / 30 == pytest.approx(mean, abs=5e-4)


def test_eval_repeats_the_last_evaluation_of_training(project: Path) -> None:
    how = [
        "evaluation_sampling={temperature: 0.7, top_k: 9}",
        "evaluation_samples=5",
        "seed=3",
        "limits.stop_strings=['7']",
    ]
    assert laurel("train", "recipe.yaml", "reward=numeric_answer", *how).status == 0
    with Run.open(RUN) as run:
        last = run.evaluations()[-1]
        texts = [[tree.rollouts[n].text for n in range(5)] for tree in run.evaluation_trees("held_out", last.step)]
    laurel("export", str(RUN), "my-model")
    same = ["--reward", "numeric_answer", "--samples", "5", "--temperature", "0.7", "--top-k", "9", "--seed", "3"]
    same += ["--max-new-tokens", "3", "--stop", "7"]
    for arguments in ([str(RUN)], ["./my-model", *same]):
        said = laurel("eval", *arguments, "--tasks", "held.jsonl", "--output", "answers.jsonl")
        assert said.status == 0, said
        assert said.out.startswith(f"held: {last.metric.mean:.3f} ")
        answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
        assert [answer["answer"] for answer in answers] == [text for group in texts for text in group]
        assert sum(answer["reward"] for answer in answers) / 5 == pytest.approx(last.metric.sum)
    other = laurel("eval", str(RUN), "--tasks", "held.jsonl", "--seed", "4", "--output", "answers.jsonl")
    assert other.status == 0
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [answer["answer"] for answer in answers] != [text for group in texts for text in group]


def test_eval_of_a_run_in_an_environment_plays_it(project: Path) -> None:
    (project / "game.yaml").write_text(
        """
environment: {name: number_guessing, low: 1, high: 3, turns: 2, higher: "+", lower: "-"}
tasks: {name: environment, count: 8}
policy: {name: tiny, alphabet: "gues 123:+-", hidden_size: 16, layers: 1, heads: 2, context_length: 32}
algorithm: reinforce
steps: 1
limits: {max_new_tokens: 2, max_turns: 2}
"""
    )
    assert laurel("train", "game.yaml").status == 0
    write_rows(Path("games.jsonl"), [{"question": "guess 1-3:"} for _ in range(40)])
    options = ["--tasks", "games.jsonl", "--reference", "question", "--output", "played.jsonl"]
    said = laurel("eval", "runs/game", *options)
    assert said.status == 0, said
    played = [json.loads(line) for line in Path("played.jsonl").read_text().splitlines()]
    assert len(played) == 40 and {answer["reward"] for answer in played} <= {0.0, 1.0}


HANGING = """
import threading

from laurel.environments import SingleTurn


class Stuck(SingleTurn):
    runs_in_process = False

    def start(self, task, rollout_id):
        if rollout_id == "1.0.1":
            threading.Event().wait()
        return super().start(task, rollout_id)


stuck = Stuck()
"""


def test_an_environment_that_hangs_costs_its_rollout_and_not_the_run(project: Path) -> None:
    (project / "stuck.py").write_text(HANGING)
    changes = ["environment=stuck:stuck", "limits.environment_timeout_seconds=0.5", "grading.failure_fraction=0.5"]
    said = laurel("explain", "recipe.yaml", *changes)
    assert said.status == 0 and "environment_timeout_seconds=0.5" in re.sub(r"[\s│]", "", said.out), said
    # In another interpreter: the thread that hangs stays until its process ends, which must not wait for it.
    done = outside("-m", "laurel.cli", "train", "recipe.yaml", *changes)
    assert done.returncode == 0, done.stderr
    with Run.open(RUN) as run:
        failed = [rollout for step in run.steps() for tree in run.trees(step) for rollout in tree.rollouts
                  if rollout.outcome.failed]  # fmt: skip
    assert [rollout.id for rollout in failed] == ["1.0.1"]
    assert "starting the episode was not answered within 0.5" in failed[0].outcome.score.reason


def test_eval_of_a_run_whose_reward_is_no_name_wants_one(project: Path) -> None:
    import laurel as package

    tasks = package.tasks.jsonl("train.jsonl")
    policy = package.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=8)
    package.train(
        policy=policy, tasks=tasks, reward=package.rewards.in_process(lambda task, text: 1.0),
        algorithm=package.reinforce(), steps=1, limits=package.Limits(max_new_tokens=2), run="here",
    )  # fmt: skip
    said = laurel("eval", "here", "--tasks", "held.jsonl")
    assert said.status == 1 and "--reward package.module:function" in said.err
    assert laurel("eval", "here", "--tasks", "held.jsonl", "--reward", "exact_match").status == 0


def test_eval_reads_templates_other_columns_markers_and_a_limit(trained: Path) -> None:
    write_rows(Path("other.jsonl"), [{"n": f"{n:02d}", "gold": f"so it is #### {n}"} for n in range(20)])
    options = ["--prompt", "{n}>", "--reference", "gold", "--extract", "####", "--limit", "4", "--max-new-tokens", "2"]
    said = laurel("eval", str(trained), "--tasks", "other.jsonl", *options, "--output", "other-answers.jsonl")
    assert said.status == 0, said
    answers = [json.loads(line) for line in Path("other-answers.jsonl").read_text().splitlines()]
    assert [(answer["prompt"], answer["reference"]) for answer in answers] == [(f"0{n}>", str(n)) for n in range(4)]


def test_eval_asks_by_the_chat_template_only_if_there_is_one(trained: Path) -> None:
    said = laurel("eval", str(trained), "--tasks", "held.jsonl", "--conversation")
    assert said.status == 1
    assert "no chat template" in said.err


def test_functions_of_modules_that_lie_where_the_command_is_run(project: Path) -> None:
    # The installed command has its own directory first on the path, not the present one: run it so.
    (project / "mine_here.py").write_text("def reward(task, text):\n    return float(len(text))\n")
    code = "from laurel.cli import main; main()"
    run = outside("-P", "-c", code, "train", "recipe.yaml", "steps=1", "held_out=null", "reward=mine_here:reward")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


def test_audit_prints_bias_and_variance() -> None:
    said = laurel("audit", "rloo")
    assert said.status == 0 and "scale  1.000  cosine  1.000" in said.out
    tilted = laurel("audit", "grpo", "ddof=1", "epsilon=0.01", "--samples", "3")
    assert tilted.status == 0 and "G=3" in tilted.out
    assert "did you mean 'ddof'" in laurel("audit", "grpo", "dof=1").err
    assert "write key=value" in laurel("audit", "grpo", "ddof").err
    for unread in ("kl=0.1", "entropy=0.1", "constraint={part: answer_tokens, at_most: 1, rate: 0.1}"):
        assert "would not be read" in laurel("audit", "rloo", unread).err


def test_check_takes_the_form_of_a_right_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n{"question": "1+2", "answer": "3"}\n')
    (tmp_path / "recipe.yaml").write_text(
        "policy: {name: tiny}\ntasks: {name: jsonl, path: rows.jsonl}\n"
        "reward: {name: numeric_answer, marker: '####'}\nalgorithm: grpo\n"
    )
    assert laurel("check", "recipe.yaml").status == 1
    assert laurel("check", "recipe.yaml", "--gold", "#### {reference}").status == 0


def test_debug_shows_where_somebodys_function_broke(project: Path) -> None:
    (project / "makers_that_break.py").write_text("def environment():\n    raise ValueError('no such door')\n")
    override = "environment=makers_that_break:environment"
    plain = laurel("train", "recipe.yaml", override)
    assert plain.status == 1 and "no such door" in plain.err and "Traceback" not in plain.err
    told = laurel("--debug", "train", "recipe.yaml", override)
    assert told.status == 1 and "Traceback" in told.err
    assert "raise ValueError('no such door')" in told.err and "What to do:" in told.err
    assert "Traceback" not in laurel("train", "recipe.yaml", override).err, "it holds for one command"


def test_eval_with_fewer_rows_at_once_draws_the_same(trained: Path) -> None:
    evaluated = [
        laurel("eval", str(trained), "--tasks", "held.jsonl", "--output", f"{rows}.jsonl", "--max-live-rows", rows)
        for rows in ("1", "7")
    ]
    assert [said.status for said in evaluated] == [0, 0], evaluated
    one, other = (
        [json.loads(line)["answer"] for line in Path(f"{rows}.jsonl").read_text().splitlines()] for rows in ("1", "7")
    )
    assert one == other and len(one) == 10
