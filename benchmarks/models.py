"""Write the benchmark's model directories: Qwen3-shaped, 3.4 M parameters, one character per token.

    python benchmarks/models.py benchmarks/.models

A model straight from its random initialisation ends an answer with probability 1/128 at every token, which gives
none of the wanted lengths. Forcing lengths from outside (a forbidden token, a fixed length) would add a logits
processor to one system and not to the other. So the lengths are written into the weights: the embeddings are
orthogonal, the layers' weights are random but small beside them, and the output head is the table of next-token
log-probabilities read in the basis of the embeddings. The model then draws the next token from that table, given the
last one, to within a few per cent, and costs exactly what any model of its shape costs. Both systems load the same
directory and sample from it freely.

`endless`  lower-case letters, without end.
`ragged`   three digits, then upper-case letters, which end with probability 1/10 at each token, or lower-case
           ones, which end with 1/64: at least 5 tokens, mean near 40, about one in a hundred reaches 256.
`judge`    a reward model on the layers of `endless`: a classifier of one label with a random head.
"""

import argparse
import string
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

PAD, END = "<pad>", "<eos>"
UPPER, LOWER = string.ascii_uppercase, string.ascii_lowercase
STAGES = "012"
PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "
VOCABULARY = [PAD, END, *PRINTABLE, *map(chr, range(0xC0, 0xC0 + 126 - len(PRINTABLE)))]
NEVER = 1e-9


def tokenizer() -> PreTrainedTokenizerFast:
    """128 tokens: padding, the end, and 126 characters."""
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(VOCABULARY)}, unk_token=" "))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END, model_max_length=1024)


def shape() -> Qwen3Config:
    """Hidden 256, 4 layers, vocabulary 128: 3.4 M parameters beside the embeddings."""
    return Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.005,
        bos_token_id=None,
        eos_token_id=VOCABULARY.index(END),
        pad_token_id=VOCABULARY.index(PAD),
        dtype="float32",
    )


def next_token(followers: dict[str, dict[str, float]]) -> Tensor:
    """The table [last token, next token] of probabilities.

    `followers` maps each group of last tokens to its groups of next tokens and their total probabilities; a last
    token that no group names is followed as a lower-case letter is. A next token that is not named has `NEVER`.
    """
    table = torch.full((len(VOCABULARY), len(VOCABULARY)), NEVER)
    for last, row in zip(VOCABULARY, table, strict=True):
        following = next((next_ for group, next_ in followers.items() if last in group), followers[LOWER])
        for group, probability in following.items():
            members = [END] if group == END else list(group)
            row[[VOCABULARY.index(token) for token in members]] = probability / len(members)
    return table


def languages() -> dict[str, Tensor]:
    """The tables of the models, by the names of their directories."""
    stages = {stage: {following: 1.0} for stage, following in pairwise(STAGES)}
    prompt_end = "?"
    return {
        "endless": next_token({LOWER: {LOWER: 1.0}}),
        "ragged": next_token(
            {
                prompt_end: {STAGES[0]: 1.0},
                **stages,
                STAGES[-1]: {UPPER: 0.5, LOWER: 0.5},
                UPPER: {UPPER: 1 - 1 / 10, END: 1 / 10},
                LOWER: {LOWER: 1 - 1 / 64, END: 1 / 64},
            }
        ),
    }


def model(table: Tensor, seed: int = 0) -> Qwen3ForCausalLM:
    """A model that draws the next token from `table`.

    With E orthogonal rows of length sqrt(hidden), the final hidden state after token t is close to E[t], so the
    head W = log(table)' E / hidden gives W E[t] = log table[t].
    """
    torch.manual_seed(seed)
    crafted = Qwen3ForCausalLM(shape())
    hidden = crafted.config.hidden_size
    with torch.no_grad():
        embeddings = torch.linalg.qr(torch.randn(hidden, len(VOCABULARY))).Q.T * hidden**0.5
        crafted.model.embed_tokens.weight.copy_(embeddings)
        crafted.lm_head.weight.copy_(table.log().T @ embeddings / hidden)
    return crafted.eval()


def judge(trunk: Qwen3ForCausalLM, seed: int = 0) -> Qwen3ForSequenceClassification:
    """A reward model on the decoder of `trunk`."""
    torch.manual_seed(seed)
    config = shape()
    config.num_labels = 1
    made = Qwen3ForSequenceClassification(config)
    made.model.load_state_dict(trunk.model.state_dict())
    return made.eval()


def write(directory: Path) -> None:
    """Write every model under `directory`, with its tokenizer, where transformers' automatic classes load it."""
    made = {name: model(table) for name, table in languages().items()}
    for name, written in {**made, "judge": judge(made["endless"])}.items():
        written.save_pretrained(directory / name)
        tokenizer().save_pretrained(directory / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    write(parser.parse_args().directory)
