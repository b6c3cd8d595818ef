"""A critic: 0 everywhere at first, one number after each token whatever else is packed beside it, its own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from noisy_heads import opinionated

from laurel.errors import ConfigurationError, PolicyError
from laurel.policy import Critic, Policy, critic_for, pack, tiny
from laurel.policy.critic import check_tokens
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree

DONE = Outcome(Ending.TERMINATED, "end", Score(1.0))


def policy(**changes: object) -> Policy:
    settings = {"alphabet": "abcdefgh", "hidden_size": 16, "layers": 2, "heads": 2, "context_length": 32}
    return tiny(**{**settings, **changes})  # type: ignore[arg-type]


def forked() -> Tree:
    """Prompt, then two answers, the second of which goes on after an observation."""
    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, np.array([2, 3, 4]), -1),
            Segment(Source.POLICY, np.array([5, 1]), 0, outcome=DONE),
            Segment(Source.POLICY, np.array([6]), 0),
            Segment(Source.ENVIRONMENT, np.array([7, 8]), 2),
            Segment(Source.POLICY, np.array([9, 1]), 3, outcome=DONE),
        ),
    )


def read(critic: Critic, *trees: Tree) -> np.ndarray:
    with torch.no_grad():
        return critic.values(pack(trees, [tree.flat.policy for tree in trees])).numpy()


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_values_start_at_zero(kind: str) -> None:
    assert (read(critic_for(policy(), kind=kind), forked()) == 0).all()


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_the_value_after_a_token_depends_on_its_path_alone(kind: str) -> None:
    critic, tree = opinionated(critic_for(policy(), kind=kind)), forked()
    together = read(critic, tree, tree)
    assert np.ptp(together) > 0.1
    np.testing.assert_allclose(together[: len(tree.flat)], together[len(tree.flat) :], atol=1e-5)
    for leaf in tree.leaves:
        path = [tree.segments[index].tokens for index in tree.path(leaf)]
        alone = Tree("row", "row", (Segment(Source.PROMPT, np.concatenate(path), -1),))
        places = np.concatenate([np.arange(tree.flat.starts[i], tree.flat.ends[i]) for i in tree.path(leaf)])
        np.testing.assert_allclose(together[places], read(critic, alone), atol=1e-5)


def test_values_at_some_tokens_are_those_of_all() -> None:
    critic, tree = opinionated(critic_for(policy())), forked()
    packed = pack([tree], [tree.flat.policy])
    rows = torch.tensor([6, 2, 4])
    torch.testing.assert_close(critic.values(packed, rows), critic.values(packed)[rows], atol=1e-6, rtol=0)


def test_its_own_trunk_learns_apart_from_the_policy() -> None:
    made = policy()
    before = {name: tensor.clone() for name, tensor in made.tensors().items()}
    critic = opinionated(critic_for(made))
    critic.values(pack([forked()], [forked().flat.policy])).sum().backward()
    assert all(parameter.grad is None for parameter in made.model.parameters())
    parameters = critic.trainable_parameters()
    assert all(parameter.grad is not None for parameter in parameters.values())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.tensors().items())


def test_a_shared_trunk_is_read_and_never_moved() -> None:
    made = policy()
    critic = opinionated(critic_for(made, kind="shared"))
    assert set(critic.trainable_parameters()) == {"value_head.weight", "value_head.bias"}
    critic.values(pack([forked()], [forked().flat.policy])).sum().backward()
    assert all(parameter.grad is None for parameter in made.model.parameters())
    seen = read(critic, forked())
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.mul_(1.1)
    assert np.abs(read(critic, forked()) - seen).max() > 1e-3  # it sees what the policy sees now


def test_a_language_model_head_of_its_own_is_no_part_of_it() -> None:
    made = policy()
    made.model.config.tie_word_embeddings = False
    head = made.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    critic = critic_for(made)
    assert "lm_head.weight" in made.trainable_parameters()
    assert "lm_head.weight" not in critic.trainable_parameters()
    assert critic.trunk.model.get_output_embeddings().weight is head.weight  # and takes no memory twice


def test_tensors_bring_a_critic_back() -> None:
    first, second = opinionated(critic_for(policy())), critic_for(policy(seed=1))
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    assert (read(first, forked()) == read(second, forked())).all()
    with pytest.raises(PolicyError, match="does not fit"):
        critic_for(policy(hidden_size=32)).load_tensors(first.tensors())


def test_a_critic_from_a_directory_reads_the_policys_tokens(tmp_path: Path) -> None:
    policy(seed=3).export(tmp_path / "critic")
    assert critic_for(policy(), model=str(tmp_path / "critic")).learns_trunk
    policy(alphabet="hgfedcba").export(tmp_path / "other")
    with pytest.raises(PolicyError, match="reads other tokens than the policy tiny writes"):
        critic_for(policy(), model=str(tmp_path / "other"))


def test_what_is_refused() -> None:
    with pytest.raises(PolicyError, match="reads other tokens"):
        check_tokens(policy(), policy(alphabet="abcdefghi"))
    with pytest.raises(PolicyError, match="reads 16 tokens, and the policy tiny may write 32"):
        check_tokens(policy(), policy(context_length=16))
    for settings in ({"kind": "owned"}, {"kind": "shared", "model": "x"}):
        with pytest.raises(ConfigurationError, match="is none"):
            critic_for(policy(), **settings)
    long = Tree("long", "long", (Segment(Source.PROMPT, np.full(33, 3), -1),))
    with pytest.raises(PolicyError, match="critic's context of 32"):
        read(critic_for(policy()), long)
