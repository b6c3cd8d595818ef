"""A small decoder from scratch, one character per token: what demos and tests train in seconds."""

from __future__ import annotations

import math
import string

import torch

from laurel.errors import PolicyError
from laurel.policy.load import assemble
from laurel.policy.policy import Policy

PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " \n"
"""The characters that a tiny policy knows by default."""

PAD, END = "<pad>", "<eos>"

INITIAL_SCALE = 0.02
"""What decoders of any size usually start from. It is small for a narrow one: see `tiny`."""


def tiny(
    *,
    alphabet: str = PRINTABLE,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    context_length: int = 128,
    initial_scale: float = INITIAL_SCALE,
    seed: int = 0,
) -> Policy:
    """A Qwen3-shaped policy with random weights and a character tokenizer; the same seed gives the same weights.

    Args:
        alphabet: the characters that it can read and write, each one token.
        hidden_size: width; a multiple of twice the number of heads.
        layers, heads: depth and attention heads.
        context_length: most tokens on a path.
        initial_scale: standard deviation of the initial weights. At the default a narrow policy answers all prompts
            alike at first. That suits cloning (from larger weights the demo learns its demonstrations by heart). Where
            it is reinforced from scratch, the first updates push all prompts to one answer; at about
            1 / sqrt(hidden_size) prompts are told apart from the start.
        seed: of the initial weights.

    Raises:
        PolicyError: when the alphabet repeats a character, the width does not divide, or a number is out of range.
    """
    if len(set(alphabet)) != len(alphabet) or not alphabet:
        raise PolicyError("The alphabet must hold each character once.", hint="remove repeated characters.")
    least = {"hidden_size": (hidden_size, 1), "layers": (layers, 1), "heads": (heads, 1), "seed": (seed, 0)}
    for name, (value, bound) in {**least, "context_length": (context_length, 2)}.items():
        if value < bound:
            raise PolicyError(f"{name} must be at least {bound}, got {value}.", hint="raise it.")
    if hidden_size % (2 * heads):
        raise PolicyError(f"hidden_size {hidden_size} is not a multiple of 2 x {heads} heads.", hint="change either.")
    if not 0 < initial_scale < math.inf:
        raise PolicyError(f"initial_scale must be positive, got {initial_scale}.", hint="0.02 is usual.")
    from transformers import Qwen3Config, Qwen3ForCausalLM

    vocabulary = [PAD, END, *alphabet]
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        initializer_range=initial_scale,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=vocabulary.index(END),
        pad_token_id=vocabulary.index(PAD),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    policy = assemble("tiny", model, character_tokenizer(vocabulary, context_length))
    policy.origin = {
        "name": "tiny",
        "alphabet": alphabet,
        "hidden_size": hidden_size,
        "layers": layers,
        "heads": heads,
        "context_length": context_length,
        "initial_scale": initial_scale,
        "seed": seed,
    }
    return policy


def character_tokenizer(vocabulary: list[str], context_length: int) -> object:
    """A tokenizer with one token per character; characters outside the vocabulary are an error, never an unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END, model_max_length=context_length)
