"""From text to token ids, and from turn to turn, so that ids only ever append.

Who may write control tokens (end of turn, begin of message, ...): the chat template and the policy, and the author of a
plain text prompt, which is taken as it stands, so that a layout can be written by hand. What a message of a
conversation or the observation of an environment says is text: a control token in it is encoded as its characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laurel.errors import PolicyError
from laurel.tasks.task import Prompt
from laurel.tree import IntArray

_ANSWER = "laurelanswer"
"""Stands for the policy's own turn while the template's text around it is read off."""

_CONTENT = "laurelcontent"
"""Stands for what somebody else says, for the same purpose."""


class Chat:
    """A tokenizer and its chat template."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        added = {token for token, about in getattr(tokenizer, "added_tokens_decoder", {}).items() if about.special}
        self._control_ids = end_ids | added | set(tokenizer.all_special_ids)
        self._control_texts = tuple(filter(None, tokenizer.convert_ids_to_tokens(sorted(self._control_ids))))
        self._expected: dict[tuple[str, ...], list[int]] = {}

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template, so that conversations can be laid out."""
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
        return self._conversation_ids(prompt, self._ids(self._render(prompt, opening=True), special=False))

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """See `Policy.prompt_lengths`."""
        lengths = [0] * len(prompts)
        plain = [place for place, prompt in enumerate(prompts) if isinstance(prompt, str)]
        for place, length in zip(plain, self._lengths([str(prompts[p]) for p in plain], special=True), strict=True):
            lengths[place] = length
        laid_out = sorted(set(range(len(prompts))) - set(plain))
        if laid_out and not self.has_template:
            self.encode_prompt(prompts[laid_out[0]])  # which says what is missing
        conversations = [tuple(prompts[place]) for place in laid_out]
        found = self._all_ids([self._render(conversation, opening=True) for conversation in conversations])
        for place, conversation, ids in zip(laid_out, conversations, found, strict=True):
            lengths[place] = len(self._conversation_ids(conversation, ids))
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
            return self._text_ids(observation)
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        layout = self._render([*turns, {"role": "user", "content": _CONTENT}], opening=True)
        _, answered, rest = layout.partition(_ANSWER)
        between, said, closing = rest.partition(_CONTENT)
        if not answered or not said:
            raise PolicyError(
                "The chat template changes or drops the assistant's earlier turns, so turns cannot be bridged.",
                hint="set a template on the tokenizer that writes each message as it is.",
            )
        whole = self._render([*turns, {"role": "user", "content": observation}], opening=True)
        inner = _within(whole, layout, _CONTENT)
        inner = observation if inner is None else inner  # the template laid it out by what it says
        ids = self._ids(between + inner + closing, special=False)
        if self._spells_control(observation) and self._controls(ids) != self._controls(self._ids(rest, special=False)):
            ids = self._joined([(between, False), (inner, True), (closing, False)])
        if ended_turn and len(ids) > 1 and int(ids[0]) in self._end_ids:
            return ids[1:]
        return ids

    def _conversation_ids(self, conversation: Sequence[Any], ids: IntArray) -> IntArray:
        """Ids of a rendered conversation, given those of its text; they stand unless a message forged a control token.

        Cutting is left to that case, since pieces that are encoded apart may merge differently at their ends.
        """
        if not any(self._spells_control(message["content"]) for message in conversation):
            return ids
        roles = tuple(message["role"] for message in conversation)
        if roles not in self._expected:
            neutral = self._render([{"role": role, "content": _CONTENT} for role in roles], opening=True)
            self._expected[roles] = self._controls(self._ids(neutral, special=False))
        if self._controls(ids) == self._expected[roles]:
            return ids
        text = self._render(conversation, opening=True)
        pieces: list[tuple[str, bool]] = []
        done = 0
        for index, message in enumerate(conversation):
            changed = [*conversation[:index], {**message, "content": _CONTENT}, *conversation[index + 1 :]]
            layout = self._render(changed, opening=True)
            if _CONTENT not in layout:
                continue  # the template leaves the message out
            inner = _within(text, layout, _CONTENT)
            start = layout.index(_CONTENT)
            if inner is None or start < done:
                raise PolicyError(
                    f"The {message['role']}'s message {message['content']!r} spells out a special token, and the chat "
                    "template rewrites it.",
                    hint="remove special tokens from the prompt.",
                )
            pieces += [(text[done:start], False), (inner, True)]
            done = start + len(inner)
        return self._joined([*pieces, (text[done:], False)])

    def _spells_control(self, text: str) -> bool:
        return any(control in text for control in self._control_texts)

    def _controls(self, ids: IntArray) -> list[int]:
        return [token for token in ids.tolist() if token in self._control_ids]

    def _joined(self, pieces: Sequence[tuple[str, bool]]) -> IntArray:
        """Ids of (text, whether somebody else said it), each encoded apart."""
        parts = [self._text_ids(text) if said else self._ids(text, special=False) for text, said in pieces if text]
        return np.concatenate(parts)

    def _text_ids(self, text: str) -> IntArray:
        """Ids of text in which no control token is recognised."""
        ids = self._ids(text, special=False, split_special_tokens=True)
        if forged := self._controls(ids):
            raise PolicyError(
                f"The text {text!r} spells out {self._tokenizer.convert_ids_to_tokens(forged[0])!r}, which the "
                "tokenizer cannot encode as plain characters.",
                hint="remove it from the prompt or from what the environment answers.",
            )
        return ids

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
        return [len(ids) for ids in self._all_ids(texts, special=special)]

    def _all_ids(self, texts: Sequence[str], *, special: bool = False) -> list[IntArray]:
        """Ids of all texts at once, which is many times faster than one by one."""
        if not texts:
            return []
        try:
            ids = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        except Exception:  # the tokenizers library raises nothing narrower
            ids = [[]] * len(texts)
        # Where something is wrong, `_ids` says what.
        return [
            np.asarray(own, np.int64) if own else self._ids(text, special=special)
            for own, text in zip(ids, texts, strict=True)
        ]

    def _ids(self, text: str, *, special: bool, **options: bool) -> IntArray:
        try:
            ids = np.asarray(
                self._tokenizer(text, add_special_tokens=special, verbose=False, **options)["input_ids"],
                dtype=np.int64,
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


def _within(text: str, layout: str, placeholder: str) -> str | None:
    """What stands in `text` where `layout` has the placeholder; None unless they are the same around it."""
    before, _, after = layout.partition(placeholder)
    if placeholder in after or len(text) < len(before) + len(after):
        return None
    if not text.startswith(before) or not text.endswith(after):
        return None
    return text[len(before) : len(text) - len(after)]
