"""What a recovered reward says of answers: the numbers that the run paid, whole and in shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_recovered import TASKS, imitate, tiny
from typer.testing import CliRunner

import laurel
from laurel.cli import app
from laurel.errors import ConfigurationError
from laurel.inspecting import answer_rewards
from laurel.policy import SoftQReward, load_recovered


def test_shares_of_a_shaped_reward_sum_to_it_less_the_potential_of_the_prompt(tmp_path: Path) -> None:
    run = imitate(tmp_path, algorithm=laurel.airl())
    (b, a) = answer_rewards(tmp_path / "run", "0", ["b", "a"])
    assert b.tokens[0][0] == "b" and len(b.tokens) == 2
    shift = [answer.reward - sum(share for _, share in answer.tokens) for answer in (a, b)]
    assert shift[0] == pytest.approx(shift[1], abs=1e-5) and abs(shift[0]) > 1e-4  # h(prompt), of either
    paid = {rollout.text: rollout.outcome.score.parts for t in run.trees(2) for rollout in t.rollouts}  # type: ignore[union-attr]
    assert all("recovered_reward" in parts for parts in paid.values())
    model, _ = load_recovered(tmp_path / "run" / "model")
    assert answer_rewards(model, "0", ["b"])[0].reward == pytest.approx(b.reward, abs=1e-5)
    page = str(laurel.inspect_reward(tmp_path / "run", "0", ["b", "a"]))
    assert len(page.splitlines()) == 6 and page.splitlines()[0].split()[1] == max((a, b), key=lambda x: x.reward).text


def test_a_reward_without_shares_is_read_whole(tmp_path: Path) -> None:
    imitate(tmp_path)
    answers = answer_rewards(tmp_path / "run", "0", ["b", "a"])
    assert [answer.tokens for answer in answers] == [(), ()] and answers[0].reward != answers[1].reward
    found = CliRunner().invoke(app, ["inspect-reward", str(tmp_path / "run"), "0", "b", "a"])
    assert found.exit_code == 0 and len(found.output.splitlines()) == 2


def test_a_soft_q_function_is_read_token_by_token(tmp_path: Path) -> None:
    laurel.train(
        policy=tiny(), tasks=TASKS, algorithm=laurel.iq_learn(discount=0.5), steps=1, prompts_per_step=4,
        run=tmp_path / "run",
    )  # fmt: skip
    laurel.export(tmp_path / "run", tmp_path / "policy")
    (by_run,) = answer_rewards(tmp_path / "run", "0", ["b"])
    (by_policy,) = answer_rewards(tmp_path / "policy", "0", ["b"], discount=0.5)
    assert by_run.reward == pytest.approx(sum(share for _, share in by_run.tokens))
    assert by_policy.reward == pytest.approx(by_run.reward, abs=1e-5)
    assert answer_rewards(tmp_path / "policy", "0", ["b"])[0].reward != pytest.approx(by_run.reward, abs=1e-3)
    assert SoftQReward(tmp_path / "policy", discount=0.5).soft_q.discount == 0.5


def test_where_there_is_no_reward_it_says_so(tmp_path: Path) -> None:
    laurel.train(
        policy=tiny(), tasks=TASKS, algorithm=laurel.clone(), steps=1, prompts_per_step=4, run=tmp_path / "run"
    )
    with pytest.raises(ConfigurationError, match="no reward of its own"):
        answer_rewards(tmp_path / "run", "0", ["b"])
    with pytest.raises(ConfigurationError, match="no answer to be judged"):
        answer_rewards(tiny(), "0", [])


def test_the_recipe_recovers_a_reward_that_can_be_looked_at(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "recover_reward.yaml"
    started = CliRunner().invoke(app, ["train", str(recipe), "steps=1", f"run={tmp_path / 'run'}"])
    assert started.exit_code == 0, started.output
    found = CliRunner().invoke(app, ["inspect-reward", str(tmp_path / "run"), "1", "c", "b", "a"])
    assert found.exit_code == 0 and len(found.output.splitlines()) == 9
