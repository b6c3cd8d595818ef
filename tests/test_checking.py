"""`laurel check`: what a recipe would meet in its first step, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Said, laurel, rows, write_project, write_rows

import laurel as package
from laurel.environments import Conversation, NumberGuessing, Turn
from laurel.errors import TaskError
from laurel.tasks import Task

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_project(tmp_path)
    return tmp_path


def check(*overrides: str) -> Said:
    return laurel("check", "recipe.yaml", *overrides)


def tiny(**changes: Any) -> package.policy.Policy:
    return package.policy.tiny(
        **{
            "alphabet": "0123456789>+-gues :",
            "hidden_size": 16,
            "layers": 1,
            "heads": 2,
            "context_length": 32,
            **changes,
        }
    )


def settings(**changes: Any) -> dict[str, Any]:
    game = NumberGuessing(low=1, high=3, turns=2, higher="+", lower="-")
    return {
        "policy": tiny(),
        "tasks": game.tasks(20),
        "held_out": game.tasks(5, first=20),
        "environment": game,
        "algorithm": package.reinforce(),
        "limits": package.Limits(max_new_tokens=2, max_turns=2),
        **changes,
    }


def test_a_sound_recipe_says_what_the_policy_reads() -> None:
    said = check()
    assert said.status == 0, said
    assert "prompts: ok: all are tokens as plain text, and fit a path of 8; train-1 ends in '00>'" in said.out
    assert "gold: 40 of 40 score full marks" in said.out
    assert "held_out: ok: no prompt is in both" in said.out


def test_the_chat_template_of_the_policy_is_what_prompts_are_laid_out_by() -> None:
    policy = tiny()
    policy.tokenizer.chat_template = TEMPLATE
    policy.export("chat")
    said = check("policy=./chat", "tasks.conversation=true", "tasks.prompt=answer", "held_out=null")
    assert said.status == 0, said
    assert "under the policy's chat template" in said.out and "train-1 ends in '0>'" in said.out
    without = check("tasks.conversation=true", "held_out=null")
    assert without.status == 1
    assert "prompts: WRONG: Task train-1 of 'train'" in without.out and "no chat template" in without.out


def test_the_row_that_does_not_fit_or_cannot_be_read_is_named() -> None:
    write_rows(Path("train.jsonl"), [*rows(range(30)), {"question": "123456789>", "answer": "1"}])
    said = check()
    assert said.status == 1 and "train-31 (10 tokens)" in said.out and "longer context" in said.out
    write_rows(Path("train.jsonl"), [*rows(range(30)), {"question": "0x>", "answer": "1"}])
    said = check()
    assert said.status == 1 and "Task train-31 of 'train'" in said.out and "no tokens: 'x'" in said.out


def test_a_policy_that_is_broken_is_wrong_and_one_that_is_out_of_reach_is_not_checked(project: Path) -> None:
    tiny().export("model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (project / "model" / file).unlink()
    broken = check("policy=./model")
    assert broken.status == 1 and "policy: WRONG: ./model has no tokenizer" in broken.out
    away = check("policy=./nowhere")
    assert away.status == 0
    assert "policy: not checked: ./nowhere" in away.out and "so no prompt was encoded" in away.out
    assert "gold: 40 of 40" in away.out


def test_where_the_environment_pays_episodes_are_tried(project: Path) -> None:
    checked = package.check(settings())
    assert checked.passed
    first = str(checked.findings[0])
    assert first.startswith("tasks: ok: 20 tasks; 8 episodes started and answered one turn, 6 of them go on")
    assert "the policy can read what it says" in first
    recipe = Path(__file__).parents[1] / "recipes" / "number_guessing.yaml"
    said = laurel("check", str(recipe))
    assert said.status == 0, said
    assert "held_out: ok: 200 tasks; 8 episodes" in said.out


class Breaking(Conversation):
    """Breaks for one task, and says what no policy here can read for another."""

    def converse(self, task: Task, rollout_id: str) -> Any:
        if task.id == "game-3":
            raise ValueError("no sandbox")
        yield task.prompt
        if task.id == "game-5":
            yield Turn("what?")
        return 1.0


def test_episodes_that_fail_name_their_task() -> None:
    checked = package.check(settings(environment=Breaking(), held_out=None))
    assert not checked.passed
    text = str(checked)
    assert "tasks: WRONG: 2 of 8 episodes fail:" in text
    assert "the episode of task game-3 raised ValueError: no sandbox" in text
    assert "task game-5: " in text and "no tokens" in text


def test_limits_that_cut_the_longest_episode_are_told() -> None:
    longer = NumberGuessing(low=1, high=3, turns=3, higher="+", lower="-")
    checked = package.check(settings(environment=longer, held_out=None))
    assert not checked.passed
    assert "an episode can have 3 turns, and limits.max_turns=2 cuts it: raise it to 3" in str(checked)


def test_a_leak_and_a_wrong_key_are_refused_before_anything_is_tried() -> None:
    with pytest.raises(TaskError, match="in both"):
        package.check(settings(held_out=NumberGuessing(low=1, high=3).tasks(5)))
    assert "did you mean 'steps'" in check("stesp=3").err


def test_a_reward_without_gold_answers_and_a_recipe_without_a_reward(project: Path) -> None:
    (project / "free.py").write_text("def reward(task, text):\n    return float(len(text))\n")
    said = check("tasks.reference=null", "reward=free:reward", "held_out=null")
    assert said.status == 0 and "tasks: not checked: no task has a reference" in said.out
    clone = ["algorithm=clone", "samples_per_prompt=null", "held_out=null", "reward=null", "limits=null"]
    said = check(*clone)
    assert said.status == 0 and "prompts: ok" in said.out
    write_rows(Path("train.jsonl"), [*rows(range(3)), {"question": "01>", "answer": "12345"}])
    said = check(*clone)
    assert said.status == 1 and "train-4 (9 tokens)" in said.out


def test_judged_answers_that_are_left_out_are_counted() -> None:
    pairs = [{"prompt": row["question"], "chosen": "1", "rejected": "2"} for row in rows(range(5))]
    write_rows(Path("pairs.jsonl"), [*pairs, {"prompt": "01>", "chosen": "", "rejected": "2"}])
    Path("pairs.yaml").write_text(
        "policy: {name: tiny, alphabet: '0123456789>', hidden_size: 16, layers: 1, heads: 2, context_length: 8}\n"
        "tasks: {name: pairs, path: pairs.jsonl}\nalgorithm: dpo\n"
    )
    said = laurel("check", "pairs.yaml")
    assert said.status == 0, said
    assert "tasks: ok: 5 tasks; 1 row" in said.out and "prompts: ok" in said.out
