"""Reward models as directories that `AutoModelForSequenceClassification.from_pretrained` loads, with one label."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from laurel.errors import PolicyError
from laurel.policy.load import load
from laurel.policy.lora import merged
from laurel.policy.packed import pack
from laurel.policy.parity import TOLERANCE
from laurel.policy.policy import Policy
from laurel.policy.quiet import quiet_transformers
from laurel.policy.reward_model import RewardModel, answer_ends
from laurel.tree import Segment, Source, Tree

_SCORE = "score.weight"
_PROBE_TOKENS = 8


def export_reward_model(model: RewardModel, directory: str | Path) -> None:
    """Write a directory that `AutoModelForSequenceClassification` and `AutoTokenizer` load.

    Its one logit for prompt, answer and end token is the reward; what was written is loaded and compared before it is
    put in place. An adapter is added into the weights. `transformers` reads the last token that is not padding: where
    an end token pads, the directory names no padding token, and rows are scored one by one (more at once are an error
    there, not a wrong score). What an objective learned beside the model (cutpoints, a tie weight) is not part of it.

    Raises:
        PolicyError: the architecture has no classifier with one linear map of the last hidden state, the loaded
            scores differ, or the directory cannot be written.
    """
    directory = Path(directory)
    plain = merged(model.trunk.model)
    classifier = _classifier(model, plain)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as place:
            with quiet_transformers():
                classifier.save_pretrained(place)
            model.trunk.tokenizer.save_pretrained(place)
            _compare(model, place)
            shutil.copytree(place, directory, dirs_exist_ok=True)
    except OSError as error:
        raise PolicyError(f"Cannot write the reward model to {directory}: {error}.", hint="choose another.") from error


def load_reward_model(directory: str | Path, *, device: str | torch.device = "auto") -> RewardModel:
    """A reward model from a directory that holds a classifier of one label, by Laurel or by others.

    Raises:
        PolicyError: there is no such head, the decoder cannot be loaded or is computed otherwise here, or its family
            adds a constant to the logits of tokens (Phi): a classifier's directory does not hold that.
    """
    directory = Path(directory)
    weight = _head(directory)
    if weight.ndim != 2 or weight.shape[0] != 1:
        raise PolicyError(
            f"{directory}: the head has the shape {tuple(weight.shape)}, not one row.",
            hint="a reward model has num_labels=1.",
        )
    with tempfile.TemporaryDirectory() as place:
        try:
            trunk = load(_as_decoder(directory, Path(place)), device=device)
        except PolicyError as error:
            raise PolicyError(error.message.replace(place, str(directory)), hint=error.hint) from error
    trunk.name = str(directory)
    trunk.origin = None
    model = RewardModel(trunk)
    if weight.shape != model.head.shape:
        raise PolicyError(
            f"{directory}: the head reads {weight.shape[1]} numbers, the decoder gives {model.head.shape[1]}.",
            hint="save head and decoder together.",
        )
    with torch.no_grad():
        model.head.copy_(weight)
    return model


def check_exportable(model: RewardModel) -> None:
    """Refuse beforehand a model whose family has no classifier to be written as.

    Raises:
        PolicyError: as `export_reward_model`.
    """
    _classifier(model, merged(model.trunk.model))


def _classifier(model: RewardModel, plain: Any) -> Any:
    """The classifier of the trunk's family around the trunk's own decoder, with the head of the reward model."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(plain.config)
    config.num_labels = 1
    config.pad_token_id = _padding(model.trunk)
    name = type(plain).__name__
    try:
        with torch.device("meta"):
            classifier = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    except ValueError as error:
        raise PolicyError(
            f"transformers has no sequence classifier for {name}.", hint="keep the model in the checkpoints of its run."
        ) from error
    head = getattr(classifier, "score", None)
    fits = isinstance(head, torch.nn.Linear) and head.bias is None and head.weight.shape == model.head.shape
    if not fits or type(classifier.base_model) is not type(plain.base_model):
        raise PolicyError(
            f"{type(classifier).__name__} is not one linear map of the last hidden state of {name}.",
            hint="keep the model in the checkpoints of its run.",
        )
    setattr(classifier, classifier.base_model_prefix, plain.base_model)
    classifier.score = torch.nn.Linear(model.head.shape[1], 1, bias=False, device="meta")
    classifier.score.weight = torch.nn.Parameter(model.head.detach().to(model.trunk.dtype))
    return classifier


def _padding(trunk: Policy) -> int | None:
    """The token that pads, unless an answer ends with it."""
    text = trunk.model.config.get_text_config(decoder=True)
    padding = text.pad_token_id if text.pad_token_id is not None else trunk.tokenizer.pad_token_id
    return None if padding in trunk.end_ids else padding


def _compare(model: RewardModel, place: str) -> None:
    """Load what was written with transformers alone, and score an answer with both.

    Raises:
        PolicyError: the scores differ by more than rounding.
    """
    from transformers import AutoModelForSequenceClassification

    trunk = model.trunk
    length = min(_PROBE_TOKENS, trunk.context_length)
    usable = sorted({*range(length + 2), *trunk.end_ids} - {_padding(trunk)})
    tokens = np.array([token for token in usable if token < trunk.vocabulary_size][:length])
    tree = Tree("probe", "probe", (Segment(Source.PROMPT, tokens, -1),))
    packed = pack([tree], [np.zeros(len(tokens), np.bool_)], trunk.device)
    with quiet_transformers(), torch.no_grad():
        loaded = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=trunk.dtype, attn_implementation="eager"
        )
        loaded = loaded.to(trunk.device).eval()
        theirs = float(loaded(input_ids=packed.tokens[None]).logits[0, 0])
        ours = float(model.rewards(packed, answer_ends([tree], [tree.leaves]))[0])
    if not abs(ours - theirs) <= TOLERANCE[trunk.dtype] * max(1.0, abs(ours)):
        raise PolicyError(
            f"{type(loaded).__name__} scores {theirs} what this reward model scores {ours}.",
            hint="keep the model in the checkpoints of its run.",
        )


def _head(directory: Path) -> torch.Tensor:
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as tensors:
                if _SCORE in tensors.keys():  # noqa: SIM118 (a file, not a mapping)
                    weight: torch.Tensor = tensors.get_tensor(_SCORE)
                    return weight
        except (SafetensorError, OSError) as error:
            raise PolicyError(f"{path} cannot be read: {error}.", hint="save the model again.") from error
    raise PolicyError(
        f"{directory} holds no '{_SCORE}', so it is no reward model.",
        hint="give a directory of a sequence classifier with one label, with safetensors files.",
    )


def _as_decoder(directory: Path, place: Path) -> Path:
    """The same files with a configuration whose language-model head, which nothing reads, is the embedding."""
    for path in directory.iterdir():
        if path.is_file() and path.name != "config.json":
            (place / path.name).symlink_to(path.resolve())
    try:
        config = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise PolicyError(f"{directory}: config.json cannot be read: {error}.", hint="save the model again.") from error
    (place / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return place
