"""Bad input: one message that names the place and says what to do, no traceback, nothing half-made, and a way on."""

from __future__ import annotations

import json
import os
import resource
import textwrap
from pathlib import Path

import pytest
from command_line import Said, laurel, rows, write_project, write_rows

from laurel.policy import tiny
from laurel.runs import Run

RUN = Path("runs/sums")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_project(tmp_path)
    return tmp_path


def refused(said: Said, *phrases: str) -> None:
    """A deliberate error on stderr: every phrase, a hint, no traceback."""
    assert said.status == 1, said
    for phrase in phrases:
        assert phrase in said.err, f"{phrase!r} is not in {said.err!r}"
    assert "What to do:" in said.err
    assert "Traceback" not in said.err + said.out


def train(*overrides: str) -> Said:
    return laurel("train", "recipe.yaml", *overrides)


def state() -> str:
    with Run.open(RUN) as run:
        return run.status.state


TASK_FILES = {
    "empty": ("", ["bad.jsonl holds no rows", "the right file"]),
    "blank": ("\n\n", ["bad.jsonl holds no rows"]),
    "broken": ('{"question": "01>", "answer": "1"}\n{"question": "02>", "ans', ["bad.jsonl, line 2", "broken JSON"]),
    "array": ('[\n{"question": "01>"}\n]', ["line 1", "one JSON array"]),
    "list": ('[{"question": "01>"}]', ["bad.jsonl, line 1 is no object but list"]),
    "number": ("3\n", ["bad.jsonl, line 1 is no object but int"]),
    "column": ('{"qestion": "01>", "answer": "1"}\n', ["line 1", "'question' is missing", "did you mean 'qestion'?"]),
    "reference": ('{"question": "01>", "answr": "1"}\n', ["'answer' is missing", "did you mean 'answr'?"]),
    "no prompt": ('{"question": " ", "answer": "1"}\n', ["line 1", "is empty"]),
    "no text": ('{"question": 3, "answer": "1"}\n', ["line 1", "holds int, not text"]),
}


@pytest.mark.parametrize("case", TASK_FILES)
@pytest.mark.parametrize("key", ["tasks", "held_out"])
def test_a_task_file(case: str, key: str) -> None:
    text, phrases = TASK_FILES[case]
    Path("bad.jsonl").write_text(text)
    refused(train(f"{key}.path=bad.jsonl"), *phrases)
    assert not RUN.exists()


def test_a_task_file_that_is_not_text_or_not_there() -> None:
    Path("bad.jsonl").write_bytes(b'{"question": "\xff"}\n')
    refused(train("tasks.path=bad.jsonl"), "bad.jsonl, line 1 is not UTF-8")
    refused(train("tasks.path=absent.jsonl"), "absent.jsonl", "No such file")
    refused(train("tasks.path=."), "Is a directory")


@pytest.mark.parametrize("key", ["tasks", "held_out"])
@pytest.mark.parametrize("prompt", ["123456789>", "12345678"])
def test_a_prompt_without_room_in_the_context_is_found_before_anything_starts(key: str, prompt: str) -> None:
    # The context holds 8 tokens; 8 of them for the prompt leave no room for an answer.
    written = rows(range(60, 95))
    written[29]["question"] = prompt
    write_rows(Path("long.jsonl"), written)
    refused(train(f"{key}.path=long.jsonl"), f"long-30 ({len(prompt)} tokens)", "at most 8 tokens", "longer context")
    assert not RUN.exists()


def test_a_prompt_with_exactly_the_room_for_one_token_is_taken() -> None:
    write_rows(Path("edge.jsonl"), [{"question": "123456>", "answer": "1"}])
    assert train("tasks.path=edge.jsonl", "steps=1").status == 0


def test_an_own_limit_on_the_path_is_what_the_hint_names() -> None:
    refused(train("limits.max_path_tokens=3"), "40 prompts are too long", "and 35 more", "raise max_path_tokens")


def test_a_prompt_with_characters_that_are_no_tokens() -> None:
    write_rows(Path("alien.jsonl"), [*rows(range(30)), {"question": "0x>", "answer": "1"}])
    refused(train("tasks.path=alien.jsonl"), "Task alien-31 of 'alien'", "no tokens: 'x'")
    assert not RUN.exists()


CLONE = ["algorithm=clone", "samples_per_prompt=null", "held_out=null", "reward=null", "limits=null"]


def test_demonstrations_that_are_missing_or_too_long() -> None:
    write_rows(Path("bare.jsonl"), [{"question": "01>"}, {"question": "02>"}])
    refused(train(*CLONE, "tasks.path=bare.jsonl", "tasks.reference=null"), "Task bare-1", "reference=...")
    write_rows(Path("long.jsonl"), [*rows(range(3)), {"question": "01>", "answer": "12345"}])
    # 3 tokens of the prompt, 5 of the answer and the end token make 9.
    refused(train(*CLONE, "tasks.path=long.jsonl"), "long-4 (9 tokens)", "context of 8 tokens")
    assert not RUN.exists()


def test_a_held_out_prompt_that_is_trained_on() -> None:
    refused(train("held_out.path=train.jsonl"), "train-1 = train-1", "TaskSet.split")
    assert not RUN.exists()


WRONG_KEYS = [
    ("stesp=3", "'stesp'", "did you mean 'steps'?"),
    ("limits.max_new_token=3", "'max_new_token'", "did you mean 'max_new_tokens'?"),
    ("optimiser.learning_rat=3", "'learning_rat'", "did you mean 'learning_rate'?"),
    ("sampling.temprature=3", "'temprature'", "did you mean 'temperature'?"),
    ("grading.workerss=3", "'workerss'", "did you mean 'workers'?"),
    ("algorithm.clipp=0.3", "algorithm 'grpo'", "did you mean 'clip'?"),
    ("policy.hiden_size=3", "policy 'tiny'", "did you mean 'hidden_size'?"),
    ("tasks.pth=x", "tasks 'jsonl'", "did you mean 'path'?"),
    ("held_out.limt=2", "held_out 'jsonl'", "did you mean 'limit'?"),
    ("reward={name: exact_match, ignorecase: true}", "reward 'exact_match'", "did you mean 'ignore_case'?"),
    ("environment={name: number_guessing, lwo: 3}", "environment 'number_guessing'", "'lwo'"),
    ("algorithm=dappo", "'dappo'", "did you mean 'dapo'?"),
    ("tasks.name=jsonll", "'jsonll'", "did you mean 'jsonl'?"),
    ("reward=exactmatch", "'exactmatch'", "did you mean 'exact_match'?"),
    ("policy={name: load, name_or_directory: x, lora: {rnk: 3}}", "lora", "did you mean 'rank'?"),
    ("reward={name: weighted, parts: {a: [exact_mach, 1]}}", "'weighted': a", "did you mean 'exact_match'?"),
    ("trackers=[tensorbord]", "'tensorbord'", "did you mean 'tensorboard'?"),
    ("progress=bar", "'progress' cannot be written in a recipe", "remove it"),
]


@pytest.mark.parametrize("wrong", WRONG_KEYS, ids=lambda wrong: wrong[0])
def test_a_typo_at_every_level(wrong: tuple[str, ...]) -> None:
    refused(train(wrong[0]), *wrong[1:])
    assert not RUN.exists()


WRONG_VALUES = [
    ("steps=many", "steps: 'many'", "a whole number"),
    ("steps=true", "steps: True", "a whole number"),
    ("steps=2.5", "steps: 2.5", "a whole number"),
    ("steps=null", "steps: None", "a whole number"),
    ("steps=0", "steps must be a whole number from 1, got 0"),
    ("steps=-3", "got -3"),
    ("limits.environment_timeout_seconds=0", "environment_timeout_seconds must be above 0"),
    ("prompts_per_step=0", "prompts_per_step must be"),
    ("samples_per_prompt=0", "samples_per_prompt must be"),
    ("samples_per_prompt=1", "'grpo' compares the samples", "at least 2"),
    ("checkpoint_every=0", "checkpoint_every must be"),
    ("evaluate_every=0", "evaluate_every must be"),
    ("evaluation_samples=0", "evaluation_samples must be"),
    ("max_live_rows=0", "max_live_rows must be"),
    ("tokens_per_microbatch=0", "tokens_per_microbatch must be"),
    ("limits.max_new_tokens=0", "max_new_tokens must be at least 1"),
    ("limits=3", "limits: 3", "max_new_tokens"),
    ("optimiser.learning_rate=-1", "learning_rate must be above 0"),
    ("optimiser.schedule=cosin", "'cosin'", "one of constant, linear, cosine"),
    ("optimiser.betas=3", "betas: 3", "a list, such as [a, b]"),
    ("trackers=tensorboard", "trackers: 'tensorboard'", "a list, such as [a, b]"),
    ("sampling.temperature=0", "temperature must be above 0"),
    ("algorithm.clip=high", "clip: 'high'", "a number"),
    ("algorithm={name: ppo, decay: 1.5}", "decay must lie in [0, 1], got 1.5"),
    ("algorithm={name: turn_ppo, critic_decay: -0.1}", "critic_decay must lie in [0, 1], got -0.1"),
    ("policy.hidden_size=7", "hidden_size 7"),
    ("policy=3", "policy: cannot understand 3", "load, tiny"),
    ("policy=null", "the key 'policy' is empty"),
    ("tasks=null", "the key 'tasks' is empty"),
    ("tasks={name: from_iterable, rows: [1]}", "row 1 is no object but int"),
    ("tasks={name: from_iterable, rows: 3}", "rows: 3", "a list"),
    ("algorithm=null", "the key 'algorithm' is empty"),
    ("reward=null", "'grpo' needs a reward"),
    ("reward=absent_module:f", "No module named 'absent_module'"),
    ("reward=json:absent", "has no attribute 'absent'"),
    ("reward=:f", "cannot understand ':f'", "package.module:function"),
    ("reward={name: weighted, parts: {a: exact_match}}", "the part 'a' is 'exact_match'", "a: [exact_match, 1.0]"),
    ("reward={name: weighted, parts: {a: [exact_match, much]}}", "the part 'a'", "a: [exact_match, 1.0]"),
    ("steps={", "The override 'steps={'", "is not YAML"),
    ("steps", "'steps' is no override", "steps=10"),
]


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=lambda wrong: wrong[0])
def test_a_value_that_makes_no_sense(wrong: tuple[str, ...]) -> None:
    refused(train(wrong[0]), *wrong[1:])
    assert not RUN.exists()


def test_a_critic_that_reads_other_tokens(project: Path) -> None:
    tiny(alphabet="0123", hidden_size=16, layers=1, heads=2, context_length=64).export(project / "other")
    said = train("algorithm={name: ppo}", "critic={model: ./other}")
    refused(said, "The critic ./other reads other tokens than the policy", "in the token", "leave critic.model out")
    assert not RUN.exists()


UNREAD = [
    (["algorithm=clone"], "'samples_per_prompt' would not be read"),
    ([*CLONE, "reward=exact_match"], "'reward' would not be read"),
    ([*CLONE, "limits={max_new_tokens: 3}"], "'limits' would not be read"),
    ([*CLONE, "sampling={top_k: 1}"], "'sampling' would not be read"),
    ([*CLONE, "max_live_rows=3"], "'max_live_rows' would not be read"),
    (["held_out=null", "evaluate_every=2"], "'evaluate_every' would not be read"),
    (["held_out=null", "evaluation_samples=2"], "'evaluation_samples' would not be read"),
    (["held_out=null", "evaluation_sampling={top_k: 1}"], "'evaluation_sampling' would not be read"),
    (["limits.max_turns=2"], "'max_turns' would not be read"),
    (["limits.environment_timeout_seconds=5"], "'environment_timeout_seconds' would not be read"),
]


@pytest.mark.parametrize("wrong", UNREAD, ids=lambda wrong: wrong[0][-1])
def test_a_setting_that_nobody_reads(wrong: tuple[list[str], str]) -> None:
    overrides, phrase = wrong
    refused(train(*overrides), phrase, "remove")
    refused(laurel("explain", "recipe.yaml", *overrides), phrase)
    assert not RUN.exists()


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        (b"- a\n- b\n", ["no mapping of keys"]),
        (b"steps: [1\n", ["recipe.yaml, line 2 is not YAML"]),
        (b"steps: 3\nseed: 1\nsteps: 4\n", ["recipe.yaml, line 3", "the key 'steps' is there twice"]),
        (b"\xff\xfe\x00", ["is not UTF-8 text"]),
        (b"policy: ${NOBODY_SETS_THIS}\n", ["policy: the variable NOBODY_SETS_THIS is not set"]),
        (b"steps: 3\n", ["the key 'policy' is missing"]),
    ],
)
def test_a_recipe_that_cannot_be_read(content: bytes, phrases: list[str]) -> None:
    Path("recipe.yaml").write_bytes(content)
    refused(train(), *phrases)


def test_a_recipe_that_is_not_there() -> None:
    refused(laurel("train", "absent.yaml"), "absent.yaml", "No such file")


def test_a_module_of_a_reward_that_breaks_while_it_is_imported() -> None:
    Path("syntax_breaks.py").write_text("def reward(task, text) return 1.0\n")
    refused(train("reward=syntax_breaks:reward"), "SyntaxError", "syntax_breaks.py, line 1")
    Path("import_breaks.py").write_text("limits = {}\nlimit = limits['absent']\n")
    refused(train("reward=import_breaks:reward"), "KeyError: 'absent'", "import_breaks.py, line 2")


def test_a_reward_that_cannot_be_called_with_a_task_and_a_text() -> None:
    Path("strange_rewards.py").write_text("def three(a, b, c):\n    return 1.0\n\n\nVALUE = 3\n")
    refused(train("reward=strange_rewards:three"), "The reward three has the parameters (a, b, c)", "(task, text)")
    refused(train("reward=strange_rewards:VALUE"), "wrap it")
    assert not RUN.exists()


BROKEN_REWARDS = {
    "nan": ("return float('nan')", ["the reward returned nan"]),
    "text": ("return '1.0'", ["the reward returned the text '1.0', not a number"]),
    "nothing": ("pass", ["the reward returned None"]),
    "raises": ("raise ValueError('no sandbox')", ["ValueError: no sandbox (line 5 of reward_raises.py)"]),
    "hangs": ("time.sleep(3600)", ["did not answer within 0.4 s and was killed"]),
    "exits": ("os._exit(3)", ["the process of the reward exited with code 3"]),
}


@pytest.mark.parametrize("case", BROKEN_REWARDS)
def test_a_broken_reward_stops_the_run_which_goes_on_when_it_is_mended(case: str, project: Path) -> None:
    body, phrases = BROKEN_REWARDS[case]
    module = project / f"reward_{case}.py"
    module.write_text(f"import os, time\nfrom laurel.rewards import Score\n\ndef reward(task, text):\n    {body}\n")
    settings = [f"reward=reward_{case}:reward", "grading={timeout_seconds: 0.4, retries: 0, workers: 2}"]
    stopped = train(*settings)
    refused(stopped, "for example rollout evaluation.", *phrases, "laurel check")
    again = f"laurel train recipe.yaml reward=reward_{case}:reward 'grading={{timeout_seconds: 0.4"
    assert f"Then go on with: {again}" in stopped.err and stopped.err.rstrip().endswith("--resume")
    assert state() == "failed"
    assert "RewardError" in laurel("show", str(RUN)).out
    module.write_text(module.read_text().replace(body, "return float(text == task.reference)"))
    resumed = train(*settings, "--resume")
    assert resumed.status == 0, resumed
    assert state() == "finished"


def test_a_few_failures_stop_nothing_and_are_counted(project: Path) -> None:
    (project / "sometimes.py").write_text(
        "def reward(task, text):\n    return None if task.id == 'train-7' else float(len(text))\n"
    )
    finished = train("reward=sometimes:reward", "steps=10", "grading.retries=0")
    assert finished.status == 0, finished
    with Run.open(RUN) as run:
        failed, drawn = run.failures()
    # 40 prompts in 10 steps: each task once, so the four samples of one task.
    assert (failed, drawn) == (4, 160)
    assert "4 of 160 rollouts (no zero: they taught nothing)" in finished.out


def test_a_directory_that_cannot_be_written() -> None:
    Path("file").write_text("")
    refused(train("run=file"), "file cannot be written", "choose a directory")
    refused(train("run=file/run"), "file/run cannot be written", "Not a directory")
    refused(train("run=/proc/run"), "/proc/run cannot be written", "choose a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_without_the_right_to_write() -> None:
    Path("closed").mkdir(mode=0o500)
    refused(train("run=closed/run"), "Permission denied")


def test_a_directory_that_holds_something_else(project: Path) -> None:
    (project / "other").mkdir()
    (project / "other" / "file").write_text("")
    refused(train("run=other"), "other is not empty: it holds file")
    refused(train("run=other", "--resume"), "other is not empty")
    assert [path.name for path in (project / "other").iterdir()] == ["file"]


def test_a_run_that_is_there_belongs_to_another_recipe_or_is_being_written() -> None:
    assert train("steps=2").status == 0
    refused(train("steps=2"), "holds a run already", "--resume")
    refused(train("steps=4", "seed=3", "--resume"), "seed was 0, now 3", "start a new run")
    write_rows(Path("train.jsonl"), rows(range(30)))
    refused(train("steps=4", "--resume"), "tasks was", "now")
    write_rows(Path("train.jsonl"), rows(range(40)))
    with Run.resume(RUN):
        busy = train("steps=4", "--resume")
        refused(busy, f"being written by process {os.getpid()}", "one writer at a time")
        assert "Then go on" not in busy.err
    assert train("steps=4", "--resume").status == 0
    with Run.open(RUN) as run:
        assert run.steps() == [1, 2, 3, 4]


def test_control_c_in_the_middle(project: Path) -> None:
    (project / "interrupting.py").write_text(
        textwrap.dedent("""
        import signal

        calls = 0

        def reward(task, text):
            global calls
            calls += 1
            if calls == 60:  # 10 held-out answers, 16 in each step: in step 4
                signal.raise_signal(signal.SIGINT)
            return float(text == task.reference)
        """)
    )
    settings = ["reward=interrupting:reward", "grading.workers=0", "steps=6"]
    stopped = train(*settings)
    assert stopped.status == 130
    again = "laurel train recipe.yaml reward=interrupting:reward grading.workers=0 steps=6 --resume"
    assert f"Interrupted. Go on with: {again}" in stopped.out
    assert "Traceback" not in stopped.out + stopped.err
    assert state() == "interrupted"
    assert "interrupted" in laurel("show", str(RUN)).out
    assert train(*settings, "--resume").status == 0
    with Run.open(RUN) as run:
        assert run.steps() == [1, 2, 3, 4, 5, 6]


def test_a_full_disk(project: Path) -> None:
    settings = ["steps=300", "checkpoint_every=2", "held_out=null"]
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        said = train(*settings)
        (project / "said.json").write_text(json.dumps([said.status, said.out, said.err]))
        os._exit(0)
    os.waitpid(child, 0)
    refused(Said(*json.loads((project / "said.json").read_text())), "run.sqlite", "then resume", "Then go on with:")
    with Run.open(RUN) as run:
        reached = max(run.steps())
    assert 2 < reached < 300
    goal = f"steps={reached + 2}"
    assert train(goal, *settings[1:], "--resume").status == 0
    with Run.open(RUN) as run:
        assert run.steps() == list(range(1, reached + 3))


def test_a_model_directory_without_a_tokenizer_a_model_or_its_device(project: Path) -> None:
    assert train("steps=2").status == 0
    assert laurel("export", str(RUN), "model").status == 0
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (project / "model" / file).rename(project / file)
    refused(train("policy=./model", "run=runs/second"), "model has no tokenizer", "save_pretrained")
    refused(laurel("eval", "./model", "--tasks", "held.jsonl"), "model has no tokenizer")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (project / file).rename(project / "model" / file)
    (project / "nothing").mkdir()
    refused(train("policy=./nothing", "run=runs/second"), "./nothing", "config.json")
    refused(train("policy=./absent", "run=runs/second"), "./absent", "a directory with config.json")
    for device in ("tpu9", "cuda:99"):
        chosen = f"policy={{name: load, name_or_directory: ./model, device: '{device}'}}"
        refused(train(chosen, "run=runs/second"), f"The device '{device}' cannot be used here")
    assert not Path("runs/second").exists()


def test_a_model_that_is_torn(project: Path) -> None:
    assert train("steps=2").status == 0
    assert laurel("export", str(RUN), "model").status == 0
    weights = project / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(train("policy=./model", "run=runs/second"), "./model", "cannot be loaded")
    (project / "model" / "config.json").write_text("{")
    refused(train("policy=./model", "run=runs/second"), "./model/config.json", "not a valid JSON file")


def test_a_run_that_is_torn() -> None:
    assert train().status == 0
    for checkpoint in (RUN / "checkpoints").iterdir():
        (checkpoint / "policy.safetensors").write_bytes(b"")
    refused(train("steps=6", "--resume"), "No checkpoint", "policy.safetensors has 0 bytes", "from a copy")
    refused(laurel("export", str(RUN), "model"), "No checkpoint")
    assert laurel("show", str(RUN)).status == 0
    (RUN / "run.sqlite").write_bytes(b"no database at all" * 100)
    refused(laurel("show", str(RUN)), "file is not a database")


def test_what_is_no_run() -> None:
    for arguments in (("show", "nowhere"), ("export", "nowhere", "model"), ("show", ".")):
        refused(laurel(*arguments), "is no run")


def test_an_export_goes_to_a_directory_of_its_own() -> None:
    assert train("steps=2").status == 0
    refused(laurel("export", str(RUN), str(RUN)), "is a run")
    refused(laurel("export", str(RUN), "recipe.yaml"), "Cannot write the model to recipe.yaml")


def test_an_evaluation_that_cannot_be_done() -> None:
    assert train("steps=2").status == 0
    refused(laurel("eval", str(RUN), "--tasks", "held.jsonl", "--prompt", "qestion"), "'qestion' is missing")
    refused(laurel("eval", str(RUN), "--tasks", "held.jsonl", "--prompt", "{question.x}"), "{question.x}")
    refused(laurel("eval", str(RUN), "--tasks", "held.jsonl", "--reward", "exactmatch"), "did you mean 'exact_match'?")
    refused(laurel("eval", str(RUN), "--tasks", "held.jsonl", "--output", "absent/a.jsonl"), "absent/a.jsonl")
    write_rows(Path("long.jsonl"), [{"question": "123456789>", "answer": "1"}])
    refused(laurel("eval", str(RUN), "--tasks", "long.jsonl"), "long-1 (10 tokens)")
    wrong = laurel("eval", str(RUN), "--tasks", "held.jsonl", "--samples", "0")
    assert wrong.status == 2 and "--samples" in wrong.err
