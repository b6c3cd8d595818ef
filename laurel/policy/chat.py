"""From text to token ids, and from turn to turn, so that ids only ever append."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laurel.errors import PolicyError
from laurel.tasks.task import Prompt
from laurel.tree import IntArray

_ANSWER = "laurelanswer"
"""Stands for the policy's own turn while the template's text around it is read off."""


class Chat:
    """A tokenizer and its chat template."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._special = tuple(tokenizer.all_special_tokens)

    @property
    def has_template(self) -> bool:
        return getattr(self._tokenizer, "chat_template", None) is not None

    def encode_prompt(self, prompt: Prompt) -> IntArray:
        """See `Policy.encode_prompt`."""
        if isinstance(prompt, str):
            return self._ids(prompt, special=True)
        if not self.has_template:
            raise PolicyError(
                "The prompt is a conversation, but the tokenizer has no chat template.",
                hint="use a plain text prompt, or a model whose tokenizer has a template.",
            )
        return self._ids(self._render(list(prompt), opening=True), special=False)

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """See `Policy.prompt_lengths`."""
        lengths = [0] * len(prompts)
        plain = [place for place, prompt in enumerate(prompts) if isinstance(prompt, str)]
        for place, length in zip(plain, self._lengths([str(prompts[p]) for p in plain], special=True), strict=True):
            lengths[place] = length
        laid_out = sorted(set(range(len(prompts))) - set(plain))
        if laid_out and not self.has_template:
            self.encode_prompt(prompts[laid_out[0]])  # which says what is missing
        texts = [self._render(list(prompts[place]), opening=True) for place in laid_out]
        for place, length in zip(laid_out, self._lengths(texts, special=False), strict=True):
            lengths[place] = length
        return lengths

    def answer_lengths(self, texts: Sequence[str]) -> list[int]:
        """See `Policy.answer_lengths`."""
        self.encode_answer(texts[0])  # an end token is there, or this says so
        return [length + 1 for length in self._lengths(texts, special=False)]

    def encode_answer(self, text: str) -> IntArray:
        """See `Policy.encode_answer`."""
        end = self._tokenizer.eos_token_id
        if self.has_template:
            conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
            after = self._render(conversation, opening=False).partition(_ANSWER)[2]
            closing = self._ids(after, special=False) if after else np.empty(0, np.int64)
            end = next((int(token) for token in closing if int(token) in self._end_ids), end)
        if end is None:
            raise PolicyError("The tokenizer has no end token, so an answer cannot be ended.", hint="set eos_token.")
        return np.append(self._ids(text, special=False), end)

    def bridge(self, observation: str, *, ended_turn: bool) -> IntArray:
        """See `Policy.bridge`."""
        if not self.has_template:
            return self._ids(observation, special=False)
        conversation = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": _ANSWER},
            {"role": "user", "content": observation},
        ]
        _, found, after = self._render(conversation, opening=True).partition(_ANSWER)
        if not found:
            raise PolicyError(
                "The chat template changes or drops the assistant's earlier turns, so turns cannot be bridged.",
                hint="set a template on the tokenizer that writes each message as it is.",
            )
        ids = self._ids_around(after, observation)
        if ended_turn and len(ids) > 1 and int(ids[0]) in self._end_ids:
            return ids[1:]
        return ids

    def _ids_around(self, text: str, observation: str) -> IntArray:
        """Ids of a rendered observation; special tokens that it spells out stay text, so that it can end no turn."""
        if not any(token in observation for token in self._special):
            return self._ids(text, special=False)
        before, found, after = text.partition(observation.strip())
        if not found:
            raise PolicyError(
                f"The observation {observation!r} spells out a special token and the chat template rewrites it.",
                hint="remove special tokens from what the environment answers.",
            )
        inner = self._tokenizer(observation.strip(), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        parts = [self._ids(before, special=False), np.asarray(inner, np.int64), self._ids(after, special=False)]
        return np.concatenate(parts)

    def decode(self, tokens: Sequence[int] | IntArray) -> str:
        """See `Policy.decode`."""
        text: str = self._tokenizer.decode(
            np.asarray(tokens, dtype=np.int64).tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _render(self, conversation: Sequence[Any], *, opening: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(conversation), tokenize=False, add_generation_prompt=opening
        )
        return text

    def _lengths(self, texts: Sequence[str], *, special: bool) -> list[int]:
        """Numbers of tokens, all texts at once, which is many times faster than one by one."""
        if not texts:
            return []
        try:
            ids = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        except Exception:  # the tokenizers library raises nothing narrower
            ids = [[]] * len(texts)
        # Where something is wrong, `_ids` says what.
        return [len(own) or len(self._ids(text, special=special)) for own, text in zip(ids, texts, strict=True)]

    def _ids(self, text: str, *, special: bool) -> IntArray:
        try:
            ids = np.asarray(
                self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"], dtype=np.int64
            )
        except Exception as error:  # the tokenizers library raises nothing narrower
            known = self._tokenizer.get_vocab()
            unknown = "".join(sorted(character for character in set(text) if character not in known))
            raise PolicyError(
                f"The tokenizer cannot encode {text!r} ({error}); characters that are no tokens: {unknown!r}.",
                hint="use an alphabet that has them, or change the text.",
            ) from error
        if len(ids) == 0:
            raise PolicyError(f"The text {text!r} has no tokens.", hint="leave empty prompts and observations out.")
        return ids
