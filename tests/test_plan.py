"""The numbers of `laurel explain` against what training then counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel import batch_plan, costs

ROWS = [{"question": f"{n:02d}>", "answer": "1"} for n in range(70)]


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "policy": laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=16),
        "tasks": laurel.tasks.from_iterable(ROWS),
        "algorithm": laurel.grpo(),
        "limits": laurel.Limits(max_new_tokens=4),
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        **changes,
    }


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (1, 4), (2, 2)])
def test_learning_computes_every_token_once_an_epoch(tmp_path: Path, epochs: int, minibatches: int) -> None:
    # With a reference every tree has something to learn from, so that none is left out.
    algorithm = laurel.grpo(kl=0.1, epochs=epochs, minibatches=minibatches)
    reward = laurel.rewards.exact_match()
    run = laurel.train(**settings(algorithm=algorithm), reward=reward, steps=1, run=tmp_path / "run")
    computed, distinct = (run.metric(name)[0][1].sum for name in ("computed_tokens", "distinct_tokens"))
    assert computed == epochs * distinct
    before = 0 if epochs * minibatches == 1 else 1
    assert costs.passes(algorithm) == 1 + before + 1 + 3 * computed / distinct


def test_cloning_samples_nothing() -> None:
    assert costs.passes(laurel.clone()) == 3
    assert costs.passes(laurel.clone(epochs=1)) == costs.passes(laurel.grpo()) - 1


def test_the_longest_of_all_prompts_counts_and_a_limit_on_the_path() -> None:
    policy = settings()["policy"]
    long = laurel.tasks.from_iterable([*ROWS, {"question": "0123456>", "answer": "1"}])
    batch = batch_plan.derive(policy, settings(tasks=long))
    assert (batch.prompt_tokens, batch.answer_tokens) == (8, 4)
    batch = batch_plan.derive(policy, settings(tasks=long, limits=laurel.Limits(max_new_tokens=99)))
    assert (batch.prompt_tokens, batch.answer_tokens) == (8, 8)
    batch = batch_plan.derive(policy, settings(limits=laurel.Limits(max_new_tokens=99, max_path_tokens=9)))
    assert (batch.prompt_tokens, batch.answer_tokens) == (3, 6)


def test_what_is_looked_at_before_credit_costs_a_pass() -> None:
    plain = laurel.vine_ppo(every=2, budget=9)
    assert costs.passes(laurel.vine_ppo(entropy_above=0.5, budget=9)) == costs.passes(plain) + 1
    assert costs.passes(laurel.ppo(values="retrace")) == costs.passes(laurel.ppo()) + 1


def test_what_holds_the_policy_costs_passes_of_its_own() -> None:
    plain = costs.passes(laurel.rloo())
    assert costs.passes(laurel.rloo(kl=0.1)) == plain + 2  # policy and reference, before credit is given
    assert costs.passes(laurel.grpo(kl=0.1)) == plain + 1  # the reference, while learning
    exact = laurel.KL(0.1, estimator="exact")
    assert costs.passes(laurel.grpo(kl=exact, epochs=3)) == costs.passes(laurel.grpo(epochs=3)) + 1 + 3
    assert costs.passes(laurel.grpo(constraint=laurel.Budget("answer_tokens", at_most=3, rate=1))) == plain


def memory(**changes: Any) -> dict[str, str]:
    """The lines of the memory estimate, by name."""
    text = str(laurel.explain(settings(reward=laurel.rewards.exact_match(), **changes)))
    lines = text.partition("memory, estimated")[2].partition("time, estimated")[0].strip().splitlines()
    return {" ".join(line.split()[2:]): " ".join(line.split()[:2]) for line in lines if line.strip()}


def test_memory_counts_critics_and_the_weights_prepared_for_decoding() -> None:
    parts = memory(algorithm=laurel.ppo(), samples_per_prompt=2)
    policy = settings()["policy"]
    parameters = policy.parameter_count
    # Its weights, and of each a gradient and two moments, all of them in float32.
    assert parts["critic with gradients, moments and masters"] == f"{parameters * 16 / 1024:.1f} KiB"
    shared = memory(algorithm=laurel.ppo(), critic=laurel.CriticSettings(kind="shared"), samples_per_prompt=2)
    assert shared["critic, a head on the policy"] == "256.0 B"
    embedded = policy.model.get_input_embeddings().weight.numel()
    assert parts["weights prepared for decoding"] == f"{2 * 4 * (parameters - embedded) / 1024:.1f} KiB"
    assert not any("critic" in name for name in memory())


def test_passes_of_critics() -> None:
    assert costs.critic_passes(laurel.grpo(), None) == 0
    assert costs.critic_passes(laurel.ppo(epochs=2), None) == 1 + 3 * 2
    shared = laurel.CriticSettings(kind="shared", epochs=3)
    assert costs.critic_passes(laurel.ppo(epochs=2), shared) == 1 + 3
