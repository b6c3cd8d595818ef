"""A policy: a causal language model with its tokenizer, as the rest of Laurel uses it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from laurel.errors import PolicyError
from laurel.objectives import Divergence
from laurel.policy.attention import AttentionPlan, attending
from laurel.policy.chat import Chat
from laurel.policy.divergence import Compared, divergence
from laurel.policy.fused import FusedDecoder, LayerSettings, fits
from laurel.policy.fused_decoding import DecodingStep
from laurel.policy.log_probs import CHUNK_ELEMENTS, Head, scores_of_rows
from laurel.policy.lora import merged
from laurel.policy.packed import Packed
from laurel.policy.quiet import quiet_transformers
from laurel.policy.tree_attention import TreeAttention
from laurel.tasks.task import Prompt
from laurel.tree import IntArray


@dataclass(frozen=True)
class TokenScores:
    """What a policy says about N scored tokens, in nats.

    Attributes:
        log_probs: [N] of each token, after temperature and recorded support.
        entropy: [N] of the distribution that it was judged under.
        log_normaliser: [N] logsumexp of the logits that it was judged under.
        divergence: [N] of that distribution from the reference's, the sum over the vocabulary; None where there was
            no reference to compare with.
    """

    log_probs: Tensor
    entropy: Tensor
    log_normaliser: Tensor
    divergence: Tensor | None = None


class Policy:
    """Built by `laurel.policy.load` and `laurel.policy.tiny`, which also prove that the architecture is computed right.

    Attributes:
        name: the hub name or directory that it came from.
        model: the `transformers` model, in evaluation mode, without dropout, attending as the plan in force says.
        tokenizer: its tokenizer.
        device, dtype: where and in what the model computes.
        context_length: most tokens on a path.
        end_ids: every token id that ends an answer.
        vocabulary_size: number of logits.
        origin: name and arguments of the function that built it, so that a run can build it again; None where a model
            in memory was wrapped.
        frozen: under an adapter, the fingerprint of what it stands on (`laurel.policy.fingerprint`); else None.
        fused: what computes hidden states in place of the stock decoder, over the same parameters, where the
            architecture is known and the result was compared at load (`laurel.policy.fused`); else None.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, *, context_length: int, end_ids: frozenset[int]) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.end_ids = end_ids
        self.chat = Chat(tokenizer, end_ids)
        self.origin: Mapping[str, Any] | None = None
        self.frozen: str | None = None
        self.fused: FusedDecoder | None = None
        self._decoding: DecodingStep | None = None
        self._decoder = model.get_decoder()
        self._output = model.get_output_embeddings()
        if not isinstance(self._output, torch.nn.Linear):
            raise PolicyError(
                f"{name}: the head of {type(model).__name__} is a {type(self._output).__name__}, not a linear map.",
                hint="choose a decoder with one linear language-model head.",
            )
        self._scale, self._softcap = _logit_scaling(model.config)
        self.vocabulary_size: int = self._output.weight.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self._output.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the forward pass computes in."""
        dtype: torch.dtype = self._output.weight.dtype
        return dtype

    @property
    def head(self) -> Head:
        """The output head, over the live parameters."""
        return Head(self._output.weight, self._output.bias, self._scale, self._softcap)

    def encode_prompt(self, prompt: Prompt) -> IntArray:
        """Token ids of plain text, or of a conversation laid out by the chat template up to where the policy speaks.

        Raises:
            PolicyError: for a conversation without a chat template, text that has no tokens, or an unknown character.
        """
        return self.chat.encode_prompt(prompt)

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """How many tokens `encode_prompt` gives for each of many prompts.

        Raises:
            PolicyError: as `encode_prompt`.
        """
        return self.chat.prompt_lengths(prompts)

    def answer_lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens `encode_answer` gives for each of some texts (at least one).

        Raises:
            PolicyError: as `encode_answer`.
        """
        return self.chat.answer_lengths(texts)

    def bridge(self, observation: str, *, ended_turn: bool) -> IntArray:
        """Token ids between one turn of the policy and the next: end of turn, the observation, the new opening.

        Args:
            observation: what the environment answers, as the user's message (plain text without a chat template).
            ended_turn: whether the policy drew its end-of-turn token itself, so that it is not repeated.
        """
        return self.chat.bridge(observation, ended_turn=ended_turn)

    def encode_answer(self, text: str) -> IntArray:
        """Token ids of an answer as the policy would have drawn it, its end token included.

        Raises:
            PolicyError: if the text has no tokens, or there is no end token.
        """
        return self.chat.encode_answer(text)

    def decode(self, tokens: Sequence[int] | IntArray) -> str:
        """The text of some tokens, without special tokens."""
        return self.chat.decode(tokens)

    def hidden_states(
        self, tokens: Tensor, positions: Tensor, plan: AttentionPlan, rows: Tensor | None = None
    ) -> Tensor:
        """Final hidden states, after the last norm: [T, D] of one row [T], or [B, Q, D] of a batch [B, Q].

        Args:
            tokens, positions: ids and places on the path, of the same shape.
            plan: what each token attends to.
            rows: [R] flat indices of the tokens whose states are asked for, in any order; the result is [R, D] then,
                and the last layer may be computed for them alone.
        """
        shape = tokens.shape
        if self._decoding is not None and len(shape) == 2 and shape[1] == 1 and rows is None:
            return self._decoding.forward(tokens, positions, plan).view(*shape, -1)
        if len(shape) == 1:
            tokens, positions = tokens.unsqueeze(0), positions.unsqueeze(0)
        if self.fused is not None and fits(self._decoder):  # adapters and hooks may have come
            hidden = self.fused.forward(tokens, positions, plan, rows)
        else:
            with attending(plan):
                states = self._decoder(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state
            hidden = states.flatten(0, 1) if rows is None else states.flatten(0, 1).index_select(0, rows)
        return hidden if rows is not None else hidden.view(*shape, -1)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Inside the block, single tokens [B, 1] are computed from weights that were prepared at its start.

        They are a copy, where that is small enough to pay (`laurel.policy.fused_decoding`). The weights must not
        change inside the block: then a PolicyError is raised, nothing is computed from old ones.
        """
        outer = self._decoding
        if self.fused is not None and fits(self._decoder) and DecodingStep.serves(self.fused):
            self._decoding = DecodingStep(self.fused)
        try:
            yield
        finally:
            self._decoding = outer

    def use_fused(self, settings: Sequence[LayerSettings]) -> bool:
        """Compute hidden states by `laurel.policy.fused` from now on, if the decoder is of its kind; whether it is.

        Args:
            settings: of the attention of every layer.
        """
        if fits(self._decoder):
            self.fused = FusedDecoder(self._decoder, settings, self.context_length)
        return self.fused is not None

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, D] final hidden states to [N, V] logits in float32, with the architecture's scaling and capping."""
        return self.head.logits(hidden)

    def token_scores(
        self,
        packed: Packed,
        *,
        entropy: bool = True,
        reference: Reference | None = None,
        form: Divergence | None = None,
        chunk_elements: int = CHUNK_ELEMENTS,
    ) -> TokenScores:
        """Log-probability and entropy of every scored token, differentiable; see `laurel.policy.log_probs`.

        Args:
            packed: the trees.
            entropy: whether to compute the entropy; NaN otherwise.
            reference: what to compute the divergence from, if anything; see `laurel.policy.divergence`.
            form: which divergence; None: KL(policy, reference).
            chunk_elements: most logits to hold at once.

        Raises:
            PolicyError: when a path is longer than the context.
        """
        hidden = self._predictors(packed)
        log_probs, row_entropy, normalisers = scores_of_rows(
            hidden, self.head, packed.rows, entropy=entropy, chunk_elements=chunk_elements
        )
        by_token = None
        if reference is not None:
            other = reference.compared(packed)
            by_row = divergence(hidden, self.head, other, packed.rows, form=form, chunk_elements=chunk_elements)
            by_token = by_row.index_select(0, packed.row_of)
        return TokenScores(
            log_probs=log_probs.index_select(0, packed.rank),
            entropy=row_entropy.index_select(0, packed.row_of),
            log_normaliser=normalisers.index_select(0, packed.row_of),
            divergence=by_token,
        )

    def _predictors(self, packed: Packed) -> Tensor:
        """[R, D] the final hidden states that predict the scored tokens."""
        if packed.layout.longest_path > self.context_length:
            raise PolicyError(
                f"A path of {packed.layout.longest_path} tokens exceeds the context of {self.context_length}.",
                hint="sample with a smaller budget.",
            )
        return self.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed), packed.row_predictors)

    def trainable_parameters(self) -> dict[str, Parameter]:
        """Name to parameter, sorted by name, tied ones once."""
        return {name: p for name, p in sorted(self.model.named_parameters()) if p.requires_grad}

    @property
    def parameter_count(self) -> int:
        """Number of weights, frozen ones included, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def key_value_width(self) -> int:
        """Numbers in the keys of one token in one layer (and as many in its values)."""
        config = self.model.config.get_text_config(decoder=True)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return int(heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads))

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it: its origin, or its name where that is all there is, and what is frozen below it."""
        frozen = {} if self.frozen is None else {"frozen": self.frozen}
        return {**(self.origin or {"name": self.name}), **frozen}

    def tensors(self) -> dict[str, Tensor]:
        """What trains, by name, for checkpoints: views of the live weights, to be written before the next update."""
        return {name: parameter.detach() for name, parameter in self.trainable_parameters().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            PolicyError: when names or shapes are not those of this policy's trainable parameters; nothing is changed.
        """
        _fill(self.name, self.tensors(), tensors)

    def snapshot(self, name: str) -> Reference:
        """The policy as it is now, kept under `name`; later updates do not reach it."""
        return Reference(name, self)

    def export(self, directory: str | Path) -> None:
        """Write a directory that `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load.

        The loaded model's logits are identical; an adapter is added into the weights first.

        Raises:
            PolicyError: when the directory cannot be written.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with quiet_transformers():
                merged(self.model).save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)
        except OSError as error:
            raise PolicyError(f"Cannot write the model to {directory}: {error}.", hint="choose another one.") from error


class Reference:
    """An immutable, named copy of a policy.

    Only what trains is copied; frozen parameters (under an adapter: the whole base model) are shared. On the CPU its
    scores of the same packed trees are bit for bit those of the policy at the time of the copy, so the
    Kullback-Leibler divergence at the first step is exactly 0.
    """

    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        frozen = {id(parameter): parameter for parameter in policy.model.parameters() if not parameter.requires_grad}
        model = copy.deepcopy(policy.model, frozen)
        trained = policy.trainable_parameters()
        self._tensors = {key: p.detach() for key, p in sorted(model.named_parameters()) if key in trained}
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)  # gradients of an update in progress are copied too
        self._policy = Policy(
            f"{policy.name} ({name})",
            model,
            policy.tokenizer,
            context_length=policy.context_length,
            end_ids=policy.end_ids,
        )
        if policy.fused is not None:
            self._policy.use_fused(policy.fused.settings)

    def token_scores(self, packed: Packed, *, entropy: bool = True) -> TokenScores:
        """As `Policy.token_scores`, without gradient."""
        with torch.no_grad():
            return self._policy.token_scores(packed, entropy=entropy)

    def compared(self, packed: Packed) -> Compared:
        """Its view of the distributions behind the scored tokens, for `laurel.policy.divergence`, without gradient."""
        with torch.no_grad():
            return Compared(self._policy._predictors(packed), self._policy.head)

    def tensors(self) -> dict[str, Tensor]:
        """What was trainable when the snapshot was taken, by name, for checkpoints; not to be changed."""
        return dict(self._tensors)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Become the snapshot that gave these tensors: how a resumed run gets its reference back.

        Raises:
            PolicyError: when names or shapes are not those of this snapshot; nothing is changed.
        """
        _fill(f"snapshot {self.name}", self._tensors, tensors)


def _fill(owner: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    different = sorted(own.keys() ^ tensors.keys())
    different += sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if different:
        raise PolicyError(
            f"{owner}: the saved weights do not fit: '{different[0]}' (and {len(different) - 1} more) is missing, "
            "unknown or of another shape.",
            hint="load them into the model and adapter settings that they were saved from.",
        )
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)


def _logit_scaling(config: Any) -> tuple[float, float | None]:
    """Factor on the logits and soft cap, under the names that architectures give them; checked at load by parity."""
    config = config.get_text_config(decoder=True)
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = 1.0
    if getattr(config, "logit_scale", None) is not None:  # Cohere
        scale *= float(config.logit_scale)
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        scale /= float(config.logits_scaling)
    return scale, softcap
