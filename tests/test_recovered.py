"""Rewards recovered inside a run: refused where they cannot be, saved, reused, and what each setting does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import laurel
from laurel.errors import ConfigurationError, PolicyError, TaskError
from laurel.learner.recovery import RecoveryLearner
from laurel.objectives import Discriminator, MaximumEntropy, ShapedDiscriminator
from laurel.policy import Policy, RewardModel, ShapedRewardModel, load_recovered
from laurel.recipe import load as load_recipe
from laurel.recovered import REWARD_PART, RecoveredReward
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Score

METHODS = ("gail", "airl", "max_ent_irl")
TASKS = TaskSet("named", tuple(Task(k, k, v) for k, v in zip("0123", "badc", strict=True)))


def tiny(seed: int = 0) -> Policy:
    return laurel.policy.tiny(alphabet="0123abcd", hidden_size=16, layers=1, heads=2, context_length=4, seed=seed)


def imitate(directory: Path, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": tiny(),
        "tasks": TASKS,
        "algorithm": laurel.gail(),
        "steps": 2,
        "prompts_per_step": 3,
        "samples_per_prompt": 4,
        "limits": laurel.Limits(max_new_tokens=2),
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2),
        "recovery": laurel.RecoverySettings(optimiser=laurel.OptimiserSettings(learning_rate=1e-2), updates=2),
        "run": directory / "run",
    }
    return laurel.train(**{name: value for name, value in {**arguments, **changes}.items() if value is not None})


@pytest.mark.parametrize("kind", ["own", "shared"])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_pays_what_its_reward_says_and_saves_it(name: str, kind: str, tmp_path: Path) -> None:
    settings = laurel.RecoverySettings(kind=kind, optimiser=laurel.OptimiserSettings(learning_rate=1e-2))
    method = getattr(laurel, name)()
    run = imitate(tmp_path, algorithm=method, recovery=settings)
    for metric in ("recovery/loss", "recovery/expert_reward", "recovery/policy_reward", "recovery/gradient_norm"):
        assert [step for step, _ in run.metric(metric)] == [1, 2]
    assert bool(list(run.metric("recovery/told_apart"))) == (name != "max_ent_irl")
    first = [rollout.outcome.score for tree in run.trees(1) for rollout in tree.rollouts]  # type: ignore[union-attr]
    assert all(isinstance(score, Score) and set(score.parts) == {REWARD_PART} for score in first)
    assert len({score.value for score in first if isinstance(score, Score)}) > 2
    model, about = load_recovered(tmp_path / "run" / "model")
    assert about["method"] == name and about["steps"] == 2
    assert isinstance(model, ShapedRewardModel) == (name == "airl")


@pytest.mark.parametrize("name", METHODS)
def test_the_saved_reward_is_the_one_that_paid_last(name: str, tmp_path: Path) -> None:
    """A model of its own does not change after it has paid for the last step."""
    run = imitate(tmp_path, algorithm=getattr(laurel, name)())
    model, _ = load_recovered(tmp_path / "run" / "model")
    asked = [(TASKS[int(tree.task_id)], rollout) for tree in run.trees(2) for rollout in tree.rollouts]
    said = laurel.policy.LearnedReward(model, writer=tiny()).score_rollouts(asked)
    for (_, rollout), score in zip(asked, said, strict=True):
        paid = rollout.outcome.score if rollout.outcome else None
        assert isinstance(paid, Score) and isinstance(score, Score)
        assert score.value == pytest.approx(paid.parts[REWARD_PART], abs=1e-5)


def test_the_saved_reward_is_a_reward_for_another_run(tmp_path: Path) -> None:
    imitate(tmp_path, algorithm=laurel.airl())
    recipe = tmp_path / "again.yaml"
    recipe.write_text(
        f"""
policy: {{name: tiny, alphabet: "0123abcd", hidden_size: 16, layers: 1, heads: 2, context_length: 4}}
tasks: {{name: from_iterable, rows: [{{question: "0"}}, {{question: "1"}}], reference: null}}
reward: {tmp_path / "run"}
algorithm: rloo
limits: {{max_new_tokens: 2}}
steps: 1
run: {tmp_path / "again"}
"""
    )
    run = laurel.train(**load_recipe(recipe))
    assert len({rollout.reward for tree in run.trees(1) for rollout in tree.rollouts}) > 2


def test_a_recipe_recovers_a_reward_and_explain_tells_of_it(tmp_path: Path) -> None:
    recipe = tmp_path / "gail.yaml"
    recipe.write_text(
        f"""
policy: {{name: tiny, alphabet: "0123abcd", hidden_size: 16, layers: 1, heads: 2, context_length: 4}}
tasks: {{name: from_iterable, rows: [{{question: "0", answer: "b"}}, {{question: "1", answer: "a"}}]}}
algorithm: {{name: gail, pay: logistic}}
recovery: {{kind: shared, updates: 3, replay: 1, optimiser: {{learning_rate: 0.01}}}}
limits: {{max_new_tokens: 2}}
steps: 2
run: {tmp_path / "run"}
"""
    )
    account = " ".join(str(laurel.explain(recipe)).split())
    assert "A = R(o_i) - mean_(j != i) R(o_j), R = log(1 + exp r)" in account and "updates=3" in account
    assert "the pay is the log-odds" not in account  # it is the paper's
    assert "recovered reward with gradients" not in account
    assert "cache of keys and values" in account  # it samples, though nobody gave a reward
    assert "recovered reward with gradients" in " ".join(str(laurel.explain(recipe, ["recovery.kind=own"])).split())
    assert laurel.check(recipe).passed
    assert load_recovered(laurel.train(**load_recipe(recipe)).directory / "model")[1]["form"]["pay"] == "logistic"


def joined(trees: int, seed: int = 0) -> tuple[Policy, list[Any]]:
    """Demonstrations beside samples, as a step lays them out."""
    policy = tiny(seed)
    sampler = laurel.rollout.LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=2), seed=seed)
    jobs = [laurel.rollout.Job(f"1.{n}", TASKS[n % 4], 3, None) for n in range(trees)]
    reward = RecoveredReward(Discriminator(), laurel.RecoverySettings(), TASKS, steps=1, method="gail")
    reward.begin(policy, Path(), 0)
    return policy, [reward._joined(tree) for tree in sampler.collect(jobs, policy_version=0)]


@pytest.mark.parametrize("form", [Discriminator(), ShapedDiscriminator(0.9), MaximumEntropy()])
def test_no_split_changes_the_fit(form: Any) -> None:
    policy, trees = joined(4)
    said = [np.nan_to_num(tree.flat.sampler_log_probs.astype(np.float64), nan=-1.0) for tree in trees]

    def fitted(together: int) -> Mapping[str, torch.Tensor]:
        made = ShapedRewardModel if form.has_potential else RewardModel
        model = made(laurel.policy.critic.copied(policy, "recovered reward"))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.read_by.values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        learner = RecoveryLearner(
            model, form, laurel.RecoverySettings(updates=2, optimiser=laurel.OptimiserSettings(learning_rate=1e-3)),
            tokens_per_microbatch=together,
        )  # fmt: skip
        learner.fit(trees, said)
        return model.tensors()

    whole, cut = fitted(1000), fitted(1)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, atol=2e-4, rtol=1e-3)


def test_the_order_of_answers_and_a_failed_one_change_nothing() -> None:
    policy, trees = joined(2)
    form = ShapedDiscriminator()
    model = ShapedRewardModel(policy, learns_trunk=False)
    learner = RecoveryLearner(model, form, laurel.RecoverySettings())
    before = learner.fit(trees, [np.full(len(tree.flat), -1.0) for tree in trees])
    broken = [
        tree.with_outcomes({tree.leaves[1]: laurel.tree.Outcome(laurel.tree.Ending.FAILED, "broken")}) for tree in trees
    ]
    model = ShapedRewardModel(policy, learns_trunk=False)
    after = RecoveryLearner(model, form, laurel.RecoverySettings()).fit(
        broken, [np.full(len(tree.flat), -1.0) for tree in trees]
    )
    assert before["recovery/policy_reward"].count == 6 and after["recovery/policy_reward"].count == 4
    assert before["recovery/expert_reward"].count == after["recovery/expert_reward"].count == 2


def test_where_it_does_not_fit_it_is_refused(tmp_path: Path) -> None:
    bare = TaskSet("bare", (Task("0", "0"),))
    with pytest.raises(TaskError, match="no reference answer"):
        imitate(tmp_path, tasks=bare)
    with pytest.raises(ConfigurationError, match="samples_per_prompt=1 teaches it nothing"):
        imitate(tmp_path, samples_per_prompt=1)
    with pytest.raises(ConfigurationError, match="'reward' would not be read: 'gail' recovers its own"):
        imitate(tmp_path, reward=laurel.rewards.exact_match())
    with pytest.raises(ConfigurationError, match="'recovery' would not be read: 'grpo' recovers no reward"):
        imitate(tmp_path, algorithm=laurel.grpo(), reward=laurel.rewards.exact_match())
    with pytest.raises(ConfigurationError, match="'environment' would not be read: 'gail' imitates"):
        imitate(tmp_path, environment=laurel.environments.NumberGuessing())
    hot, replay = laurel.Sampling(temperature=2.0), laurel.RecoverySettings(replay=2)
    for method in (laurel.airl(), laurel.max_ent_irl()):
        with pytest.raises(ConfigurationError, match="sampling draws from another distribution"):
            imitate(tmp_path, algorithm=method, sampling=hot)
        with pytest.raises(ConfigurationError, match="'replay' would not be read"):
            imitate(tmp_path, algorithm=method, recovery=replay)
    with pytest.raises(ConfigurationError, match="not RecoverySettings"):
        imitate(tmp_path, recovery=laurel.CriticSettings())
    for wrong in ({"kind": "mine"}, {"updates": 0}, {"replay": -1}):
        with pytest.raises(ConfigurationError, match="recovery"):
            laurel.RecoverySettings(**wrong)
    with pytest.raises(PolicyError, match="no recovered reward"):
        load_recovered(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_true_reward_beside_it_only_judges(tmp_path: Path) -> None:
    held_out = TaskSet("held", (Task("h", "00", "b"),))
    run = imitate(tmp_path, held_out=held_out, reward=laurel.rewards.exact_match(), steps=1)
    assert len(list(run.evaluations())) == 2
    (tree, *_) = run.trees(1)
    assert all(isinstance(r.outcome.score, Score) and r.outcome.score.parts for r in tree.rollouts if r.outcome)


def test_the_audit_takes_the_reward_as_given() -> None:
    """What moves the policy is the exact gradient of what it is paid, whatever that is."""
    for name in METHODS:
        seen = laurel.audit(getattr(laurel, name)())
        assert seen.scale == pytest.approx(1, abs=1e-9) and seen.cosine == pytest.approx(1, abs=1e-9)
    with pytest.raises(ConfigurationError, match="recovers a reward from demonstrations"):
        laurel.audit(laurel.iq_learn())
