"""A policy that is asked: the likeliest tokens, draws that hang on seed and messages alone, chat and plain text."""

import pytest
import torch

from laurel.errors import SamplingError, TreeError
from laurel.policy import Policy, tiny
from laurel.rollout import Respondent
from laurel.tasks import Message

LINES = "abcdefgh12: \n"
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}a: {% endif %}"
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Logits far from uniform, over an alphabet with line ends."""
    made = tiny(alphabet=LINES, hidden_size=32, context_length=160, seed=3)
    with torch.no_grad():
        made.model.get_input_embeddings().weight.mul_(3)
    return made


def said(*contents: str) -> list[Message]:
    return [Message(role="user", content=content) for content in contents]


def by_hand(policy: Policy, text: str, count: int) -> str:
    """The likeliest tokens one after the other, each from the stock computation over the whole path."""
    tokens = policy.encode_prompt(text).tolist()
    start = len(tokens)
    policy.model.set_attn_implementation("eager")
    with torch.no_grad():
        while len(tokens) < start + count and tokens[-1] not in policy.end_ids:
            tokens.append(int(policy.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    policy.model.set_attn_implementation("laurel")
    return policy.decode(tokens[start:])


def test_at_temperature_0_it_says_the_likeliest_tokens(policy: Policy) -> None:
    assert Respondent(policy)(said("ab", "c: 1"), max_new_tokens=9) == by_hand(policy, "ab\nc: 1", 9)


def test_draws_hang_on_seed_and_messages_alone(policy: Policy) -> None:
    ask = Respondent(policy)
    asked = [said(text) for text in ("ab", "ba", "c", "ab", "h: 1")]
    together = ask.answers(asked, temperature=1.0, max_new_tokens=12)
    assert together[0] == together[3] and len(set(together)) > 2
    assert [ask(one, temperature=1.0, max_new_tokens=12) for one in asked] == together
    few_rows = Respondent(policy, max_live_rows=1)
    assert few_rows.answers(asked[::-1], temperature=1.0, max_new_tokens=12) == together[::-1]
    assert ask.answers(asked, temperature=1.0, max_new_tokens=12, seed=1) != together
    assert ask.answers([]) == []


def test_a_stop_text_ends_the_answer(policy: Policy) -> None:
    whole = Respondent(policy)(said("ab"), max_new_tokens=9)
    assert Respondent(policy)(said("ab"), max_new_tokens=9, stop=[whole[2]]) == whole[: whole.index(whole[2])]


def test_a_template_lays_the_conversation_out() -> None:
    policy = tiny(alphabet=LINES + "u", hidden_size=32, seed=3)
    policy.tokenizer.chat_template = TEMPLATE
    messages = [Message(role="assistant", content="ab"), Message(role="user", content="c")]
    expected = by_hand(policy, "a: ab<eos>u: c<eos>a: ", 6)
    assert Respondent(policy)(messages, max_new_tokens=6) == expected


def test_a_model_is_loaded_by_its_directory(policy: Policy, tmp_path) -> None:  # type: ignore[no-untyped-def]
    policy.export(tmp_path)
    assert Respondent(tmp_path)(said("ab"), max_new_tokens=9) == Respondent(policy)(said("ab"), max_new_tokens=9)


def test_what_cannot_be_asked_is_refused(policy: Policy) -> None:
    with pytest.raises(SamplingError, match="conversation 2 has 160 tokens"):
        Respondent(policy).answers([said("a"), said("a" * 160)])
    with pytest.raises(TreeError, match="temperature"):
        Respondent(policy)(said("a"), temperature=-1.0)
