"""The sampler: exact distributions, the learner's scores, independence of the batch, budgets, branches."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_checks import ALPHABET, collect, jobs, same_draws, score_difference

from laurel.errors import ConfigurationError, SamplingError
from laurel.policy import Policy
from laurel.rollout import Job, Limits, LocalSampler, rollout_key, uniforms
from laurel.tasks import Task
from laurel.tree import Ending, Sampling, Source

MIXED = ["ab", "c: 12", "a" * 50, "b" * 70, "h" * 35 + "g", "a" * 150]
TRUNCATING = [Sampling(0.7, top_k=3), Sampling(top_p=0.8), Sampling(1.3, min_p=0.2), Sampling(0.9, 6, 0.9, 0.02)]


def next_token_distribution(policy: Policy, tokens: np.ndarray) -> np.ndarray:
    """By the stock computation over the whole path: no cache, no packing."""
    model = policy.model
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(tokens)[None]).logits[0, -1]
    model.set_attn_implementation("laurel")
    return torch.softmax(logits.double(), -1).numpy()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5), *TRUNCATING])
def test_log_probs_are_those_of_the_learner(policy: Policy, sampling: Sampling) -> None:
    trees = collect(policy, jobs(MIXED, 4), sampling=sampling)
    assert score_difference(policy, trees) < 1e-5
    for tree in trees:
        for segment in tree.segments[1:]:
            assert (segment.support is not None) == sampling.truncates
            assert segment.sampling == sampling and segment.policy_version == 7


@pytest.mark.parametrize("sampling", [Sampling(), TRUNCATING[-1]])
def test_the_batch_changes_no_draw(policy: Policy, sampling: Sampling) -> None:
    asked = jobs(MIXED, 5)
    together = collect(policy, asked, sampling=sampling)
    for rows in (1, 3, 7):
        same_draws(collect(policy, asked, sampling=sampling, rows=rows), together)
    alone = [tree for job in reversed(asked) for tree in collect(policy, [job], sampling=sampling)]
    same_draws(alone[::-1], together)
    fewer = collect(policy, [replace(asked[2], samples=2)], sampling=sampling)[0]
    assert [s.tokens.tolist() for s in fewer.segments] == [s.tokens.tolist() for s in together[2].segments[:3]]


def test_seed_and_tree_id_change_the_draws(policy: Policy) -> None:
    task = Task("t", "ab")
    first = collect(policy, [Job("x", task, 8)])
    assert [s.tokens.tolist() for s in first[0].segments] != [
        s.tokens.tolist() for s in collect(policy, [Job("y", task, 8)])[0].segments
    ]
    assert [s.tokens.tolist() for s in first[0].segments] != [
        s.tokens.tolist() for s in collect(policy, [Job("x", task, 8)], seed=1)[0].segments
    ]


def test_each_token_is_the_inverse_cumulative_of_the_models_own_distribution(policy: Policy) -> None:
    tree = collect(policy, jobs(["ab: 1"], 3), seed=5)[0]
    for sample, segment in enumerate(tree.segments[1:]):
        path, key = tree.segments[0].tokens, rollout_key(5, f"tree0.{sample}")
        for place, token in enumerate(segment.tokens.tolist()):
            cumulative = next_token_distribution(policy, path).cumsum()
            number = uniforms(np.array([key]), np.array([5 + place]))[0]
            assert token == np.searchsorted(cumulative, number, side="right")
            path = np.append(path, token)


def test_frequencies_are_the_models(policy: Policy) -> None:
    tree = collect(policy, jobs(["ab"], 4000), max_new_tokens=1, rows=4000)[0]
    expected = next_token_distribution(policy, tree.segments[0].tokens) * 4000
    found = np.bincount([int(s.tokens[0]) for s in tree.segments[1:]], minlength=len(expected))
    statistic = ((found - expected) ** 2 / expected).sum()
    assert statistic < 44.0  # chi-square, 13 degrees of freedom, p = 3e-5


def test_an_answer_may_end_at_once_and_any_end_token_ends_it(policy: Policy) -> None:
    end, other = min(policy.end_ids), policy.encode_prompt("a")[0]
    tree = collect(policy, jobs(["ab"], 300), max_new_tokens=8)[0]
    first = [segment for segment in tree.segments[1:] if segment.tokens.tolist() == [end]]
    assert first and all(s.outcome is not None and s.outcome.ending is Ending.TERMINATED for s in first)
    policy.end_ids, before = frozenset({end, int(other)}), policy.end_ids
    try:
        both = collect(policy, jobs(["ab"], 300), max_new_tokens=8)[0]
    finally:
        policy.end_ids = before
    seen = Counter()
    for segment in both.segments[1:]:
        body, last = segment.tokens[:-1].tolist(), int(segment.tokens[-1])
        assert not {end, int(other)} & set(body)
        assert segment.outcome is not None
        assert (segment.outcome.stop_reason == "end_token") == (last in (end, other))
        seen[last] += 1
    assert seen[end] and seen[int(other)]


def test_budgets_truncate_and_never_terminate(policy: Policy) -> None:
    by_turn = collect(policy, jobs(["ab", "a" * 50], 40), max_new_tokens=5)
    by_path = collect(policy, jobs(["ab", "a" * 50], 40), max_new_tokens=50, max_path_tokens=55)
    by_context = collect(policy, jobs(["a" * 155], 40), max_new_tokens=50)
    for trees, reason, longest in (
        (by_turn, "length", 55),
        (by_path, "path_length", 55),
        (by_context, "path_length", 160),
    ):
        reasons = set()
        for tree in trees:
            assert int(tree.flat.position.max()) < longest
            for segment in tree.segments[1:]:
                assert segment.outcome is not None
                ended = int(segment.tokens[-1]) in policy.end_ids
                assert (segment.outcome.ending is Ending.TERMINATED) == ended
                reasons.add(segment.outcome.stop_reason)
        assert reasons <= {"end_token", reason, "length"} and {"end_token", reason} <= reasons


def test_a_prompt_without_room_names_its_task(policy: Policy) -> None:
    with pytest.raises(SamplingError, match=r"task0.*160"):
        collect(policy, jobs(["a" * 160], 1))
    with pytest.raises(SamplingError, match="'x'"):
        collect(policy, [Job("x", Task("t", "a"), 1), Job("x", Task("t", "a"), 1)])
    with pytest.raises(ConfigurationError, match="stop_strings"):
        Limits(max_new_tokens=1, stop_strings="ab")  # type: ignore[arg-type]


def test_stop_strings_cut_the_text_and_keep_the_tokens(policy: Policy) -> None:
    free = collect(policy, jobs(["ab", "a" * 50], 30))
    stops = ("a", "1:", "bc")
    stopped = collect(policy, jobs(["ab", "a" * 50], 30), stop_strings=stops)
    found = 0
    for one, other in zip(free, stopped, strict=True):
        for whole, cut in zip(one.segments[1:], other.segments[1:], strict=True):
            places = [whole.text.find(stop) for stop in stops if stop in whole.text]
            assert cut.outcome is not None
            if not places:
                assert cut.tokens.tolist() == whole.tokens.tolist() and cut.outcome == whole.outcome
                continue
            found += 1
            assert cut.outcome.stop_reason == "stop_string" and cut.outcome.ending is Ending.TERMINATED
            assert cut.tokens.tolist() == whole.tokens[: len(cut.tokens)].tolist()
            drawn = policy.decode(cut.tokens)
            assert any(drawn.endswith(stop) for stop in stops)
            assert cut.text == drawn[: min(drawn.find(stop) for stop in stops if stop in drawn)]
    assert found > 10


@pytest.mark.parametrize("string", ["<eos>", "a<eos>", "<pad>"])
def test_a_special_token_is_refused_as_a_stop_string(policy: Policy, string: str) -> None:
    assert policy.decode(policy.tokenizer(string, add_special_tokens=False)["input_ids"]) != string
    with pytest.raises(ConfigurationError, match=rf"{string}.*can never match[\s\S]*end_ids"):
        LocalSampler(policy, Sampling(), Limits(stop_strings=("a", string)), seed=0)
    LocalSampler(policy, Sampling(), Limits(stop_strings=("<eo", "eos", ">")), seed=0)


def test_time_runs_out_as_truncation_and_waiting_rollouts_fail(policy: Policy) -> None:
    policy.end_ids, before = frozenset(), policy.end_ids
    try:
        tree = collect(policy, jobs(["ab"], 3), max_new_tokens=150, rows=2, timeout_seconds=0.02)[0]
    finally:
        policy.end_ids = before
    outcomes = [segment.outcome for segment in tree.segments[1:]]
    assert [(o.ending, o.stop_reason) for o in outcomes if o] == [
        (Ending.TRUNCATED, "time"), (Ending.TRUNCATED, "time"), (Ending.FAILED, "time")
    ]  # fmt: skip
    assert tree.segments[3].source is Source.ENVIRONMENT  # never started: nothing that could carry loss
    assert score_difference(policy, [tree]) < 1e-5


def test_logits_that_are_not_finite_are_refused(policy: Policy) -> None:
    weight = policy.model.get_input_embeddings().weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[5] = torch.nan
    try:
        with pytest.raises(SamplingError, match="not finite"):
            collect(policy, jobs(["ab"], 2))
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_a_branch_equals_sampling_from_the_flat_prompt(policy: Policy) -> None:
    limits = Limits(max_new_tokens=20)
    sampler = LocalSampler(policy, Sampling(), limits, seed=2)
    tree = sampler.collect(jobs(["a" * 40], 12), policy_version=1)[0]
    letters = 2  # the tokens before it are special, and no prompt spells them
    leaf = next(i for i in tree.leaves if len(tree.segments[i]) > 8 and min(tree.segments[i].tokens[:6]) >= letters)
    branched = sampler.branch(tree, leaf, 6, samples=9, policy_version=2)
    new = [s for s in branched.segments if s.rollout_id and "@46." in s.rollout_id]
    assert len(new) == 9 and all(s.policy_version == 2 for s in new)
    assert len(branched.leaves) == len(tree.leaves) + 9
    assert score_difference(policy, [branched]) < 1e-5
    half = tree.split(leaf, 6).segments[leaf]
    prompt = "a" * 40 + policy.decode(half.tokens)
    flat = collect(policy, [Job(f"tree0.{leaf - 1}@46", Task("flat", prompt), 9)], max_new_tokens=14, seed=2)[0]
    assert [s.tokens.tolist() for s in new] == [s.tokens.tolist() for s in flat.segments[1:]]
    assert [s.outcome for s in new] == [s.outcome for s in flat.segments[1:]]
    texts = [rollout.text for rollout in branched.rollouts if "@46." in rollout.id]
    assert texts == [policy.decode(half.tokens) + s.text for s in flat.segments[1:]]
    again = sampler.branch(branched, new_index := branched.segments.index(new[0]), 1, samples=3, policy_version=2)
    assert score_difference(policy, [again]) < 1e-5 and new_index < len(again.segments)
    with pytest.raises(SamplingError, match="ends a rollout"):
        sampler.branch(tree, leaf, samples=1, policy_version=2)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=60), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(1, 6),
    st.sampled_from([Sampling(), *TRUNCATING]),
)
def test_any_jobs(policy: Policy, prompts: list[str], samples: int, new: int, rows: int, sampling: Sampling) -> None:
    asked = jobs(prompts, samples)
    trees = collect(policy, asked, max_new_tokens=new, rows=rows, sampling=sampling)
    assert score_difference(policy, trees) < 1e-5
    same_draws(trees, collect(policy, asked, max_new_tokens=new, sampling=sampling))
    for job, tree in zip(asked, trees, strict=True):
        assert [s.rollout_id for s in tree.segments[1:]] == [f"{job.tree_id}.{i}" for i in range(samples)]
        for segment in tree.segments[1:]:
            assert 1 <= len(segment) <= new and segment.outcome is not None
            assert not policy.end_ids & set(segment.tokens[:-1].tolist())
