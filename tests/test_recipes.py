"""The recipes in recipes/: checked, explained, run, resumed, exported; what they learn is in the slow part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

from laurel.cli import app
from laurel.environments import NumberGuessing
from laurel.errors import PolicyError
from laurel.evaluation import interval
from laurel.metrics import Metric
from laurel.restoring import policy_of_run
from laurel.runs import Run
from laurel.tree import Source

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
DATA = Path(os.environ.get("LAUREL_DATA", ROOT.parent / "shared" / "data"))
GSM8K = str(RECIPES / "gsm8k.yaml")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS_FOR_TOKENIZER = 400
FIRST_STEPS = (
    "prompts_per_step=2",
    "samples_per_prompt=2",
    "limits.max_new_tokens=6",
    "tasks.limit=20",
    "held_out.limit=2",
    "checkpoint_every=1",
    # Nothing that a random model writes is right; the bonus makes the weights move all the same.
    "algorithm.entropy=0.01",
    "optimiser.learning_rate=1e-3",
)

with_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (set LAUREL_DATA)")


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUREL_DATA", str(DATA))


def laurel(*arguments: str | Path) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def gsm8k_texts() -> Iterator[str]:
    with (DATA / "gsm8k" / "train.jsonl").open(encoding="utf-8") as lines:
        for _, line in zip(range(TEXTS_FOR_TOKENIZER), lines, strict=False):
            row = json.loads(line)
            yield f"{row['question']}\n{row['answer']}"


@pytest.fixture(scope="module")
def small_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 directory as from the hub, but tiny: byte-level BPE trained on the questions, a ChatML template."""
    directory = tmp_path_factory.mktemp("small-qwen")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(gsm8k_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )
    tokenizer.save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(directory)
    return directory


@with_data
def test_gsm8k_runs_its_first_steps_is_resumed_shown_and_exported(small_qwen: Path, tmp_path: Path) -> None:
    run, exported = tmp_path / "run", tmp_path / "model"
    settings = (GSM8K, f"policy={small_qwen}", f"run={run}", *FIRST_STEPS)
    laurel("train", *settings, "steps=2")
    laurel("train", *settings, "steps=3", "--resume")
    with Run.open(run) as opened:
        assert opened.steps() == [1, 2, 3]
        evaluated = opened.evaluations()
        assert {evaluation.name for evaluation in evaluated} == {"held_out"}
        assert all(evaluation.metric.count == 2 for evaluation in evaluated)
        tree = opened.evaluation_trees("held_out", 0)[0]
    assert tree.segments[0].text.startswith("user\n") and tree.segments[0].text.endswith("assistant\n")
    assert "grpo" in laurel("show", run)
    laurel("export", run, exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    stock = AutoModelForCausalLM.from_pretrained(exported)
    trained = policy_of_run(run).model
    trained.set_attn_implementation(stock.config._attn_implementation)
    tokens = tokenizer("Natalia sold 48/2 = 24 clips in May.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(stock(tokens).logits, trained(tokens).logits)
        start = AutoModelForCausalLM.from_pretrained(small_qwen)
        assert not torch.equal(stock(tokens).logits, start(tokens).logits)


@with_data
def test_gsm8k_is_sound() -> None:
    """Every gold answer of the test set scores, no wrong one does, and no held-out prompt is trained on."""
    printed = laurel("check", GSM8K, "tasks.limit=300", "held_out.limit=1319")
    assert "1319 of 1319 score full marks" in printed and "no prompt is in both" in printed
    assert "WRONG" not in printed


@with_data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_gsm8k_is_sound() -> None:
    printed = laurel("check", GSM8K, "held_out.limit=1319")
    assert "7473 of 7473 score full marks" in printed and "WRONG" not in printed


@with_data
def test_dpo_runs_its_first_steps_on_real_pairs_and_is_explained(small_qwen: Path, tmp_path: Path) -> None:
    recipe, run = str(RECIPES / "dpo.yaml"), tmp_path / "run"
    settings = (recipe, f"policy={small_qwen}", f"run={run}", "prompts_per_step=2", "tasks.limit=8", "steps=2")
    printed = laurel("explain", *settings)
    assert "log sigmoid(m), m = 0.1 (r(w) - r(l))" in printed and "2 prompts x 2 samples" in printed
    laurel("train", *settings)
    with Run.open(run) as opened:
        assert opened.metric("loss")[0][1].mean == pytest.approx(np.log(2), rel=1e-5)
        (tree, _) = opened.trees(1)
        chosen, rejected = (rollout.text for rollout in tree.rollouts)
        assert tree.segments[0].text.startswith("user\n") and chosen != rejected
    assert "dpo" in laurel("show", run)


@with_data
def test_a_reward_model_takes_its_first_steps_on_real_pairs(small_qwen: Path, tmp_path: Path) -> None:
    recipe, run = str(RECIPES / "reward_model.yaml"), tmp_path / "run"
    first_steps = (f"policy={small_qwen}", f"run={run}", "prompts_per_step=2", "tasks.limit=40", "held_out=4")
    settings = (recipe, *first_steps, "steps=2", "members=2")
    printed = laurel("explain", *settings)
    assert "2 reward models, an ensemble" in printed and "trunk, 2 times" in printed
    checked = laurel("check", *settings)
    assert "36 of 36 prompts say something" in checked and "answers: ok" in checked
    laurel("fit-reward-model", *settings)
    with Run.open(run) as opened:
        assert opened.metric("reward_model/loss")[0][1].mean == pytest.approx(np.log(2), rel=1e-5)
        names = {evaluation.name: evaluation.metric.count for evaluation in opened.evaluations()}
        assert names["accuracy"] == 4 and "disagreement" in names
        assert opened.evaluation_trees("accuracy", 2)[0].segments[0].text.startswith("user\n")


@with_data
def test_gsm8k_is_explained(small_qwen: Path) -> None:
    printed = laurel("explain", GSM8K, f"policy={small_qwen}", "max_live_rows=64")
    for wanted in (
        "Group-relative policy optimisation",
        "Shao et al.",
        "32 prompts x 8 samples = 256",
        "train: 7,473 tasks",
    ):
        assert wanted in printed
    assert "0.2" in printed and "1e-06" in printed


@with_data
def test_gsm8k_without_its_model(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no-such-model") as caught:
        laurel("explain", GSM8K, f"policy={tmp_path / 'no-such-model'}")
    assert caught.value.hint


GUESSING = str(RECIPES / "number_guessing.yaml")
# Two numbers of three are hit without listening to what the environment answers.
WITHOUT_LISTENING = 2 / 3


def test_number_guessing_plays_turns_and_never_trains_on_what_it_hears(tmp_path: Path) -> None:
    run = tmp_path / "run"
    laurel("train", GUESSING, f"run={run}", "steps=25", "held_out.count=20", "checkpoint_every=25")
    with Run.open(run) as opened:
        rewards = [metric.mean for _, metric in opened.metric("reward")]
        trees, credits = opened.trees(25), opened.credits(25)
    # From next to nothing, since two tokens must be right, to mostly well-formed games.
    assert sum(rewards[:5]) / 5 < 0.1 < sum(rewards[-5:]) / 5
    heard = [segment for tree in trees for segment in tree.segments if segment.source is Source.ENVIRONMENT]
    assert {segment.text for segment in heard} == {"+", "-"}
    learned_from = sum(int(credit.mask.sum()) for credit in credits)
    written = sum(len(s) for tree in trees for s in tree.segments if s.source is Source.POLICY)
    assert learned_from == written


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_number_guessing_is_learned_by_listening(seed: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    laurel("train", GUESSING, f"run={run}", f"seed={seed}", f"policy.seed={seed}")
    before, after = held_out(run)
    assert NumberGuessing(low=1, high=3, turns=2).optimal_return() == 1.0
    assert before.mean < 0.05
    assert after.mean > 0.9 > WITHOUT_LISTENING


RLHF = str(RECIPES / "rlhf.yaml")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_rlhf_over_optimises_a_small_reward_model_unless_the_kl_holds_it(seed: int, tmp_path: Path) -> None:
    seeds = (f"seed={seed}", f"policy.seed={seed}")
    printed = laurel("rlhf", RLHF, f"run={tmp_path / 'run'}", *seeds)
    assert "over-optimised: since step" in printed
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    points = {point["name"]: point for point in found["course"]}
    cloned, best, end = points["step 0"], points[found["peak"]], points["step 100"]
    # The proxy rises to the end; the gold reward rises beyond its interval, and falls beyond it again.
    assert found["before"]["gold"]["high"] < cloned["gold"]["low"] < cloned["gold"]["high"] < best["gold"]["low"]
    assert end["gold"]["high"] < best["gold"]["low"] and end["proxy"]["low"] > best["proxy"]["high"]
    assert end["kl"] > best["kl"] > cloned["kl"] == pytest.approx(0, abs=1e-4)
    # The control goes at most as far as best of 64, and ends above what was reinforced.
    assert max(point["gold"]["mean"] for point in found["best_of"]) > best["gold"]["mean"]
    held = laurel("rlhf", RLHF, f"run={tmp_path / 'held'}", "reinforce.algorithm.kl=0.3", *seeds)
    assert "not over-optimised" in held


def test_rlhf_is_sound_and_explained() -> None:
    checked = laurel("check", RLHF)
    assert "gold_reward: ok: 32 answers were judged" in checked and "WRONG" not in checked
    printed = " ".join(laurel("explain", RLHF, "reward_model.members=3").split())
    assert "the mean of the 3 reward models of the second run" in printed
    assert "16 prompts x 8 samples = 128, 100 steps" in printed


def test_rlhf_takes_its_first_steps(tmp_path: Path) -> None:
    small = ("clone.steps=2", "labels.pairs=12", "reward_model.steps=2", "reinforce.steps=2", "tasks.count=40")
    settings = ("held_out.count=8", "held_out.first=40", "best_of=[1, 2]", "clone.prompts_per_step=4", *small)
    printed = laurel("rlhf", RLHF, f"run={tmp_path / 'run'}", "reinforce.prompts_per_step=2", *settings)
    assert "gold reward" in printed and (tmp_path / "run" / "report.svg").is_file()


REASONING_GYM = str(RECIPES / "reasoning_gym.yaml")
needs_reasoning_gym = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="the extra `envs` is not installed")


@needs_reasoning_gym
def test_reasoning_gym_takes_its_first_steps(tmp_path: Path) -> None:
    run = tmp_path / "run"
    laurel("train", REASONING_GYM, f"run={run}", "steps=2", "prompts_per_step=4", "tasks.size=40", "held_out=5")
    with Run.open(run) as opened:
        failed = [metric.sum for _, metric in opened.metric("failed")]
        prompt = opened.trees(1)[0].segments[0].text
    assert failed == [0, 0]
    assert prompt.startswith("Spell this word backward")


@needs_reasoning_gym
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_reasoning_gym_improves_on_words_that_it_never_saw(seed: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    laurel("train", REASONING_GYM, f"run={run}", f"seed={seed}", f"policy.seed={seed}")
    (_, _, high), (mean, low, _) = intervals(run)
    assert high < 0.1
    assert low > 0.3 and mean > 0.35


def held_out(run: Path) -> list[Metric]:
    """The evaluations before and after the run."""
    with Run.open(run) as opened:
        return [evaluation.metric for evaluation in opened.evaluations()]


def intervals(run: Path) -> list[tuple[float, float, float]]:
    """Mean, low and high over held-out tasks, before and after the run."""
    with Run.open(run) as opened:
        steps = sorted({evaluation.step for evaluation in opened.evaluations()})
        scores = [[tree.rollouts[0].reward for tree in opened.evaluation_trees("held_out", step)] for step in steps]
    return [interval(np.array(values)) for values in scores]
