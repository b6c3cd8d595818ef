"""The reward in a policy's logits, against the plain formula on rows of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import laurel
from laurel.errors import PolicyError
from laurel.policy import Policy, SoftQ, SoftQReward, soft_q
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Outcome, Rollout, Score, Segment, Source, Tree

TASK = Task("t", "12>", "3")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=12, seed=3)


def dialogue(policy: Policy) -> Tree:
    """An answer of two turns, one that a limit cut off, and one of a single turn."""

    def segment(text: str, source: Source, parent: int, ending: Ending | None = None) -> Segment:
        tokens = policy.encode_answer(text)
        done = ending is Ending.TERMINATED
        outcome = None if ending is None else Outcome(ending, "stop")
        kept = tokens if done else tokens[:-1]
        return Segment(source, kept, parent, text=text, outcome=outcome, rollout_id=f"t.{parent}")

    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, policy.encode_prompt("12>"), -1, text="12>"),
            segment("45", Source.POLICY, 0),
            segment(">7", Source.ENVIRONMENT, 1),
            segment("8", Source.POLICY, 2, Ending.TERMINATED),
            segment("98", Source.POLICY, 0, Ending.TRUNCATED),
            segment("3", Source.POLICY, 0, Ending.TERMINATED),
        ),
    )


@pytest.fixture(scope="module")
def directory(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("soft_q")
    policy.export(made)
    return made


@pytest.fixture(scope="module")
def stock(directory: Path) -> Any:
    """The same weights, computed by transformers alone."""
    return AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")


def plain(stock: Any, rollout: Rollout, discount: float) -> np.ndarray:
    """One row through the stock model: Q - discount * V of the next state in which the policy writes."""
    tokens = torch.tensor(np.concatenate([s.tokens for s in rollout.segments]))
    written = np.concatenate([np.full(len(s), s.source is Source.POLICY) for s in rollout.segments])
    with torch.no_grad():
        logits = stock(input_ids=tokens[None]).logits[0].double()
    values = torch.logsumexp(logits, 1)
    places = np.flatnonzero(written)
    rewards = []
    for number, place in enumerate(places):
        last = number + 1 == len(places)
        cut = rollout.outcome is not None and rollout.outcome.ending is Ending.TRUNCATED
        after = (values[-1] if cut else 0.0) if last else values[places[number + 1] - 1]
        rewards.append(float(logits[place - 1, tokens[place]] - discount * after))
    return np.array(rewards)


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_token_rewards_are_the_plain_formula(policy: Policy, stock: Any, discount: float) -> None:
    tree = dialogue(policy)
    (ours,) = SoftQ(policy, discount).token_rewards([tree])
    assert [len(rewards) for rewards in ours] == [4, 2, 2]
    for rollout, rewards in zip(tree.rollouts, ours, strict=True):
        np.testing.assert_allclose(rewards, plain(stock, rollout, discount), atol=1e-5)


def test_a_whole_answer_earns_its_log_probability_and_a_constant_of_the_prompt(policy: Policy, stock: Any) -> None:
    tree = dialogue(policy)
    (ours,) = SoftQ(policy).token_rewards([tree])
    first, end = tree.segments[5].tokens
    with torch.no_grad():
        row = torch.tensor([*tree.segments[0].tokens, first, end])
        logits = stock(input_ids=row[None]).logits[0].double()
    table, value = torch.log_softmax(logits, 1), torch.logsumexp(logits[2], 0)
    assert float(ours[2].sum()) == pytest.approx(float(table[2, first] + table[3, end] + value), abs=1e-5)


def test_it_pays_any_policy_also_one_with_other_tokens(policy: Policy) -> None:
    tree = dialogue(policy)
    asked = [(TASK, rollout) for rollout in tree.rollouts]
    (by_token,) = SoftQ(policy).token_rewards([tree])
    read = SoftQReward(policy, writer=policy).score_rollouts(asked)
    assert [score.value for score in read if isinstance(score, Score)] == pytest.approx([r.sum() for r in by_token])
    other = SoftQReward(policy).score_rollouts(asked)
    assert isinstance(other[0], Failed) and "no dialogues" in other[0].reason
    assert [s.value for s in other[1:] if isinstance(s, Score)] == pytest.approx([r.sum() for r in by_token[1:]])
    assert SoftQReward(policy).description != SoftQReward(policy, discount=0.5).description


def test_it_loads_from_a_directory(policy: Policy, directory: Path) -> None:
    tree = dialogue(policy)
    answer = replace(tree, segments=(tree.segments[0], replace(tree.segments[5], parent=0)))
    (rollout,) = answer.rollouts
    one, other = SoftQReward(directory)(TASK, rollout), SoftQReward(policy)(TASK, rollout)
    assert isinstance(one, Score) and isinstance(other, Score) and one.value == pytest.approx(other.value, abs=1e-5)


def test_a_run_can_make_it_again_from_its_record(policy: Policy, directory: Path) -> None:
    recorded = dict(SoftQReward(directory, discount=0.5).description)
    assert recorded.pop("type") == "SoftQReward"
    again = soft_q(**recorded)  # type: ignore[arg-type]
    assert again.description == {"type": "SoftQReward", **recorded}
    with pytest.raises(PolicyError, match="another policy than it did"):
        soft_q(**{**recorded, "fingerprint": "0"})  # type: ignore[arg-type]
