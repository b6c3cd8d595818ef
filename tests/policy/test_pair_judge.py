"""A policy that compares two answers: the very log-odds, principles, the chat template, what is refused."""

import numpy as np
import pytest
import torch

from laurel.errors import ConfigurationError
from laurel.policy import Comparison, PairJudge, Policy, pack, tiny
from laurel.preferences import BothOrders, in_both_orders
from laurel.preferences.constitution import drawn_principle
from laurel.tasks import Message, Task
from laurel.tree import Failed, Segment, Source, Tree

QUESTION = "{prompt}>{first}|{second}|{principle}?"
PRINCIPLES = ("so", "or")
TASK = Task("t", "ab")


@pytest.fixture(scope="module")
def judge() -> Policy:
    return tiny(alphabet="abcdsor12>|?\n ", hidden_size=32, context_length=32, initial_scale=0.3, seed=2)


def log_odds(judge: Policy, question: str) -> float:
    totals = []
    for verdict in "12":
        answer = Segment(Source.POLICY, judge.encode_answer(verdict)[:-1], 0)
        row = Tree("row", "row", (Segment(Source.PROMPT, judge.encode_prompt(question), -1), answer))
        with torch.no_grad():
            totals.append(float(judge.token_scores(pack([row], [row.flat.policy])).log_probs.double().sum()))
    return totals[0] - totals[1]


def test_both_orders_are_asked_by_one_principle(judge: Policy) -> None:
    comparison = Comparison(question=QUESTION, principles=PRINCIPLES)
    pairs = [(TASK, "cd", "d"), (TASK, "d", "a"), (TASK, "c", "cd"), (TASK, "bb", "a")]
    used = set()
    for (_, a, b), said in zip(pairs, in_both_orders(PairJudge(judge, comparison), pairs), strict=True):
        assert isinstance(said, BothOrders)
        principle = drawn_principle(PRINCIPLES, 0, "t", *sorted((a, b)))
        used.add(principle)
        assert said.forward == pytest.approx(log_odds(judge, f"ab>{a}|{b}|{principle}?"), abs=1e-5)
        assert said.backward == pytest.approx(log_odds(judge, f"ab>{b}|{a}|{principle}?"), abs=1e-5)
    assert used == set(PRINCIPLES)


def test_all_principles_are_averaged_in_log_odds(judge: Policy) -> None:
    comparison = Comparison(question=QUESTION, principles=PRINCIPLES, every_principle=True)
    (said,) = PairJudge(judge, comparison).log_odds([(TASK, "cd", "d")])
    each = [log_odds(judge, f"ab>cd|d|{principle}?") for principle in PRINCIPLES]
    assert said == pytest.approx(np.mean(each), abs=1e-5) and each[0] != pytest.approx(each[1], abs=1e-3)


def test_a_conversation_is_quoted_and_a_template_asks_as_the_user(judge: Policy) -> None:
    task = Task("t", (Message(role="user", content="ab"), Message(role="assistant", content="c")))
    comparison = Comparison(question="{prompt}>{first}|{second}?")
    assert comparison.principles is None
    (plain,) = PairJudge(judge, comparison).log_odds([(task, "c", "d")])
    assert plain == pytest.approx(log_odds(judge, "ab\nc>c|d?"), abs=1e-5)
    chatting = tiny(alphabet="abcdsor12>|?\n ", hidden_size=32, context_length=32, initial_scale=0.3, seed=2)
    chatting.tokenizer.chat_template = "{% for m in messages %}o>{{ m.content }}{% endfor %}<eos>"
    (asked,) = PairJudge(chatting, comparison).log_odds([(task, "c", "d")])
    assert asked == pytest.approx(log_odds(judge, "o>ab\nc>c|d?<eos>"), abs=1e-5)


def test_a_pair_that_is_too_long_fails_in_both_orders_and_alone(judge: Policy) -> None:
    asks = PairJudge(judge, Comparison(question=QUESTION, principles=["or"]))
    long, short = in_both_orders(asks, [(TASK, "c" * 12, "d" * 12), (TASK, "a", "b")])
    assert isinstance(long, Failed) and "33 tokens" in long.reason and "context holds 32" in long.reason
    assert isinstance(short, BothOrders)


def test_questions_that_do_not_compare_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="must name"):
        Comparison(question="{prompt}: {first}?")
    for settings in ({"principles": PRINCIPLES}, {"every_principle": True}):
        with pytest.raises(ConfigurationError, match="would not be read"):
            Comparison(question="{first}, {second}?", **settings)  # type: ignore[arg-type]


def test_a_record_makes_it_again(judge: Policy, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "c.txt").write_text("so\nor\n")
    comparison = Comparison(question=QUESTION, principles=str(tmp_path / "c.txt"), seed=3)
    assert comparison == Comparison(**comparison.description) and comparison.principles == PRINCIPLES
    described = PairJudge(judge, comparison).description
    assert described["type"] == "PairJudge" and described["comparison"]["principles"] == PRINCIPLES
