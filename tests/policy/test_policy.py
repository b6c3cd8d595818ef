"""A policy scores packed trees as the stock model scores rows; nothing leaks; snapshots and exports are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import random_tree, stock_log_probs
from transformers import AutoModelForCausalLM, AutoTokenizer

from laurel.errors import PolicyError
from laurel.policy import Policy, TreeAttention, load, pack
from laurel.tree import Segment, Tree


def scores(policy: Policy, trees: list[Tree]) -> list[torch.Tensor]:
    """Log-probabilities of all policy tokens, tree by tree."""
    masks = [tree.flat.policy for tree in trees]
    packed = pack(trees, masks)
    return list(policy.token_scores(packed).log_probs.split([int(mask.sum()) for mask in masks]))


def test_packed_trees_equal_stock_rows(policy: Policy, trees: list[Tree]) -> None:
    packed = pack(trees, [tree.flat.policy for tree in trees])
    with torch.no_grad():
        ours = policy.token_scores(packed)
        rows = [stock_log_probs(policy.model, tree, tree.flat.policy) for tree in trees]
    torch.testing.assert_close(ours.log_probs, torch.cat([row[0] for row in rows]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.entropy, torch.cat([row[1] for row in rows]), atol=1e-5, rtol=1e-5)


def test_gradients_of_packed_trees_equal_those_of_stock_rows(policy: Policy, trees: list[Tree]) -> None:
    tree = trees[0]
    weights = torch.randn(int(tree.flat.policy.sum()), generator=torch.Generator().manual_seed(0))

    def gradients(log_probs: torch.Tensor, entropy: torch.Tensor) -> dict[str, torch.Tensor]:
        policy.model.zero_grad()
        ((log_probs * weights).sum() + 0.3 * entropy.sum()).backward()
        return {name: p.grad.clone() for name, p in policy.trainable_parameters().items() if p.grad is not None}

    ours = policy.token_scores(pack([tree], [tree.flat.policy]))
    packed = gradients(ours.log_probs, ours.entropy)
    rows = gradients(*stock_log_probs(policy.model, tree, tree.flat.policy))
    assert packed.keys() == rows.keys()
    for name, expected in rows.items():
        torch.testing.assert_close(packed[name], expected, atol=2e-5 * max(1.0, float(expected.abs().max())), rtol=1e-4)


def test_no_token_reaches_siblings_ancestors_or_other_trees(policy: Policy, trees: list[Tree]) -> None:
    before = torch.cat(scores(policy, trees)).detach()
    offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])
    scored = np.concatenate([np.flatnonzero(t.flat.policy) + o for t, o in zip(trees, offsets, strict=False)])
    flat = trees[1].flat
    for segment in range(1, len(flat.starts)):
        changed = list(trees[1].segments)
        old = changed[segment]
        changed[segment] = Segment(old.source, (old.tokens + 1) % policy.vocabulary_size, old.parent)
        after = torch.cat(scores(policy, [trees[0], Tree("t", "t", tuple(changed)), trees[2]])).detach()
        below = np.zeros(offsets[-1], np.bool_)
        below[offsets[1] + flat.starts[segment] : offsets[1] + flat.subtree_ends[segment]] = True
        torch.testing.assert_close(after[~below[scored]], before[~below[scored]], atol=1e-6, rtol=1e-6)
        assert not torch.equal(after[below[scored]], before[below[scored]]) or not below[scored].any()


def test_cutting_a_segment_changes_no_bit(policy: Policy) -> None:
    tree = random_tree(4)
    whole = scores(policy, [tree])[0]
    longest = int(np.argmax([len(segment) for segment in tree.segments]))
    assert torch.equal(whole, scores(policy, [tree.split(longest, 2)])[0])


def test_order_and_company_of_trees_change_nothing(qwen: Policy, trees: list[Tree]) -> None:
    together = scores(qwen, trees)
    turned = scores(qwen, trees[::-1])[::-1]
    for tree, one, other in zip(trees, together, turned, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(one, scores(qwen, [tree])[0], atol=1e-6, rtol=1e-6)


def test_hidden_states_of_a_batch_are_those_of_its_rows(policy: Policy) -> None:
    class Itself:
        def attend(self, call: object) -> torch.Tensor:
            return call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], 1).transpose(1, 2)  # type: ignore[attr-defined]

    tokens, positions = torch.tensor([[3], [4], [5]]), torch.tensor([[7], [1], [0]])
    batch = policy.hidden_states(tokens, positions, Itself())
    assert batch.shape[:2] == (3, 1)
    for row in range(3):
        alone = policy.hidden_states(tokens[row], positions[row], Itself())
        torch.testing.assert_close(batch[row], alone, atol=1e-6, rtol=1e-6)
    assert policy.logits(batch[:, 0]).shape == (3, policy.vocabulary_size)


def test_a_snapshot_is_exact_and_stays(policy: Policy, trees: list[Tree]) -> None:
    packed = pack(trees, [tree.flat.policy for tree in trees])
    reference = policy.snapshot("start")
    start = policy.token_scores(packed).log_probs
    assert torch.equal(start, reference.token_scores(packed).log_probs)
    saved = {key: tensor.clone() for key, tensor in reference.tensors().items()}
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.mul_(1.1)
    assert not torch.equal(start, policy.token_scores(packed).log_probs)
    assert torch.equal(start, reference.token_scores(packed).log_probs)
    later = policy.snapshot("later")
    later.load_tensors(saved)
    assert torch.equal(start, later.token_scores(packed).log_probs)
    policy.load_tensors(saved)
    assert torch.equal(start, policy.token_scores(packed).log_probs)


def test_foreign_tensors_are_refused_whole(qwen: Policy) -> None:
    tensors = {name: tensor.clone() for name, tensor in qwen.tensors().items()}
    name = min(tensors)
    tensors[name] = tensors[name][:1]
    with pytest.raises(PolicyError, match=name):
        qwen.load_tensors(tensors)
    with pytest.raises(PolicyError, match="snapshot start"):
        qwen.snapshot("start").load_tensors({})


def test_tied_parameters_are_listed_once(qwen: Policy) -> None:
    names = list(qwen.trainable_parameters())
    assert names == sorted(names)
    assert len({id(p) for p in qwen.trainable_parameters().values()}) == len(names)
    assert sum(p.numel() for p in qwen.trainable_parameters().values()) == qwen.parameter_count


def test_an_export_has_identical_logits(policy: Policy, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.mul_(1.05)
    policy.export(tmp_path / "out")
    tree = random_tree(1)
    mask = tree.flat.policy
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    with torch.no_grad():
        exported, _ = stock_log_probs(model, tree, mask)
        own, _ = stock_log_probs(policy.model, tree, mask)
        assert torch.equal(exported, own)
        assert torch.equal(scores(load(tmp_path / "out", device="cpu"), [tree])[0], scores(policy, [tree])[0])
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("ab") == [2, 3]


def test_an_export_to_a_place_that_is_a_file(qwen: Policy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="file"):
        qwen.export(tmp_path / "file")


def test_a_path_beyond_the_context_is_refused(qwen: Policy) -> None:
    tree = random_tree(0, segments=2, longest=3)
    long = tree.segments[1].tokens.repeat(64)
    tree = Tree("t", "t", (tree.segments[0], Segment(tree.segments[1].source, long, 0)))
    with pytest.raises(PolicyError, match="context of 64"):
        qwen.token_scores(pack([tree], [tree.flat.policy]))


def test_without_entropy_the_log_probs_are_the_same(qwen: Policy, trees: list[Tree]) -> None:
    packed = pack(trees, [tree.flat.policy for tree in trees])
    without = qwen.token_scores(packed, entropy=False)
    assert without.entropy.isnan().all()
    assert torch.equal(without.log_probs, qwen.token_scores(packed).log_probs)
    without.log_probs.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in qwen.trainable_parameters().values())


def test_the_plan_serves_several_passes(qwen: Policy, trees: list[Tree]) -> None:
    packed = pack(trees, [tree.flat.policy for tree in trees])
    plan = TreeAttention.of(packed)
    one = qwen.hidden_states(packed.tokens, packed.positions, plan)
    assert torch.equal(one, qwen.hidden_states(packed.tokens, packed.positions, plan))
