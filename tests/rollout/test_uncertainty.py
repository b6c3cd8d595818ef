"""How undecided the policy was, against the distribution written out, path by path."""

import copy

import numpy as np
import pytest
import torch
from sampling_checks import collect, jobs

from laurel.policy import Policy
from laurel.rollout import drawn_entropies
from laurel.tree import Sampling, Segment, Source, Tree


@pytest.fixture(scope="module")
def plain(policy: Policy) -> torch.nn.Module:
    """The same weights in float64, run by transformers alone."""
    model = copy.deepcopy(policy.model).double()
    model.set_attn_implementation("eager")
    return model


def written_out(model: torch.nn.Module, tree: Tree, leaf: int) -> list[float]:
    """The entropy behind each policy token of a path, from one plain forward pass in float64."""
    segments = [tree.segments[index] for index in tree.path(leaf)]
    tokens = torch.from_numpy(np.concatenate([segment.tokens for segment in segments]))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    found, place = [], 0
    for segment in segments:
        for within in range(len(segment)):
            if segment.source is Source.POLICY:
                assert segment.sampling is not None
                tempered = logits[place + within - 1] / segment.sampling.temperature
                if segment.support is not None:
                    kept = segment.support.ids[segment.support.offsets[within] : segment.support.offsets[within + 1]]
                    tempered = tempered[torch.tensor(kept)]
                found.append(torch.distributions.Categorical(logits=tempered).entropy().item())
        place += len(segment)
    return found


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.5), Sampling(top_p=0.8), Sampling(temperature=1.5, top_k=3)]
)
@pytest.mark.parametrize("tokens_at_once", [1, 40, 8192])
def test_equal_to_the_entropy_of_what_drew_the_token(
    policy: Policy, plain: torch.nn.Module, sampling: Sampling, tokens_at_once: int
) -> None:
    trees = collect(policy, jobs(["abc", "d: 12 gh", "a"], 3), sampling=sampling)
    measured = drawn_entropies(policy, trees, tokens_at_once=tokens_at_once)
    for tree, entropies in zip(trees, measured, strict=True):
        assert np.array_equal(np.isnan(entropies), ~tree.flat.policy)
        for leaf in tree.leaves:
            path = np.concatenate([np.arange(tree.flat.starts[i], tree.flat.ends[i]) for i in tree.path(leaf)])
            own = entropies[path[tree.flat.policy[path]]]
            np.testing.assert_allclose(own, written_out(plain, tree, leaf), atol=2e-5)


def test_what_nobody_drew_has_none(policy: Policy) -> None:
    prompt = Segment(Source.PROMPT, np.array([1, 2]), -1)
    shown = Tree("t", "t", (prompt, Segment(Source.POLICY, np.array([3, 4]), 0)))
    (entropies,) = drawn_entropies(policy, [shown])
    assert np.isnan(entropies).all()
