"""Reward models in files: transformers loads the scalar head with equal scores, or it is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from noisy_heads import opinionated
from small_models import ARCHITECTURES

from laurel.errors import PolicyError
from laurel.policy import (
    Policy,
    RewardModel,
    answer_ends,
    export_reward_model,
    load,
    load_reward_model,
    pack,
    reward_model_for,
    tiny,
)
from laurel.tree import Tree


def rewards(model: RewardModel, trees: list[Tree]) -> np.ndarray:
    packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees])
    with torch.no_grad():
        return model.rewards(packed, answer_ends(trees, [tree.leaves for tree in trees])).numpy()


def rows(trees: list[Tree]) -> list[np.ndarray]:
    return [
        np.concatenate([segment.tokens for segment in rollout.segments]) for tree in trees for rollout in tree.rollouts
    ]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"granite-scaled"}))
def test_transformers_scores_every_answer_alike(
    name: str, directories: Callable[[str], Path], trees: list[Tree], tmp_path: Path
) -> None:
    model = opinionated(reward_model_for(load(directories(name), device="cpu")))
    ours = rewards(model, trees)
    export_reward_model(model, tmp_path / "saved")
    # Eager: some releases would choose an attention for Gemma 2 that leaves its soft cap out.
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", attn_implementation="eager"
    ).eval()
    assert theirs.config.num_labels == 1
    with torch.no_grad():
        each = [float(theirs(input_ids=torch.from_numpy(row)[None]).logits) for row in rows(trees)]
    np.testing.assert_allclose(ours, each, atol=1e-4)
    if name == "phi-bias":
        with pytest.raises(PolicyError, match=r"saved: the weights lack lm_head\.bias"):
            load_reward_model(tmp_path / "saved", device="cpu")
    else:
        again = load_reward_model(tmp_path / "saved", device="cpu")
        np.testing.assert_allclose(rewards(again, trees), ours, atol=1e-6)


def test_padded_batches_score_alike_where_padding_is_no_end(tmp_path: Path) -> None:
    policy = tiny(alphabet="abcdefgh", hidden_size=16, layers=1, heads=2, context_length=32)
    model = opinionated(reward_model_for(policy))
    export_reward_model(model, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    texts = ["abc<eos>", "abcdefg<eos>"]
    with torch.no_grad():
        batch = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0]
        alone = torch.cat([theirs(**tokenizer(text, return_tensors="pt")).logits[:, 0] for text in texts])
    torch.testing.assert_close(batch, alone, rtol=0, atol=1e-5)


def test_an_end_token_that_pads_is_no_padding_there(tmp_path: Path) -> None:
    policy = tiny(alphabet="abcdefgh", hidden_size=16, layers=1, heads=2, context_length=32)
    policy.model.config.pad_token_id = 1
    model = opinionated(reward_model_for(policy))
    export_reward_model(model, tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokens = torch.tensor([[2, 3, 1]])  # would be read at 3 if 1 were padding
    with torch.no_grad():
        hidden = theirs.model(input_ids=tokens).last_hidden_state[0, -1]
        assert float(theirs(input_ids=tokens).logits) == pytest.approx(float(hidden @ theirs.score.weight[0]))
        with pytest.raises(ValueError, match="batch sizes > 1"):
            theirs(input_ids=tokens.repeat(2, 1))


def test_a_resaved_model_is_the_same(qwen: Policy, trees: list[Tree], tmp_path: Path) -> None:
    model = opinionated(reward_model_for(qwen))
    export_reward_model(model, tmp_path / "first")
    export_reward_model(load_reward_model(tmp_path / "first", device="cpu"), tmp_path / "second")
    second = load_reward_model(tmp_path / "second", device="cpu")
    np.testing.assert_array_equal(rewards(second, trees), rewards(model, trees))
    assert second.trunk.name == str(tmp_path / "second")


def test_heads_of_another_form_are_refused(directories: Callable[[str], Path], qwen: Policy, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no 'score\.weight', so it is no reward model"):
        load_reward_model(directories("qwen3-tied"))
    config = qwen.model.config.__class__(**{**qwen.model.config.to_dict(), "num_labels": 3})
    transformers.Qwen3ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match=r"shape \(3, 32\), not one row"):
        load_reward_model(tmp_path)


def test_an_architecture_without_a_classifier_is_refused(directories: Callable[[str], Path], tmp_path: Path) -> None:
    model = opinionated(reward_model_for(load(directories("granite-scaled"), device="cpu")))
    with pytest.raises(PolicyError, match="no sequence classifier for GraniteForCausalLM"):
        export_reward_model(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_classifier_that_scores_otherwise_is_not_put_in_place(
    qwen: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opinionated(reward_model_for(qwen))
    monkeypatch.setattr(model, "rewards", lambda packed, ends: RewardModel.rewards(model, packed, ends) + 1)
    with pytest.raises(PolicyError, match=r"scores .* what this reward model scores"):
        export_reward_model(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
