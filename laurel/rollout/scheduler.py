"""Which rollouts live when: waiting ones enter, finished turns are answered, finished rollouts leave."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from laurel.environments import Turn
from laurel.errors import SamplingError, said_by
from laurel.policy import Policy
from laurel.rollout.answering import Answering, Unanswered
from laurel.rollout.engine import Draws, Engine, Prompted
from laurel.rollout.episodes import respond_call, turn_name
from laurel.rollout.limits import Limits
from laurel.rollout.records import Record, SupportLog, drawn_segment
from laurel.rollout.rows import Rows
from laurel.rollout.static import StaticStep
from laurel.rollout.stopping import EndTokens, Stop, StopStrings
from laurel.rollout.substitute import Due, Substitute, Taken
from laurel.tree import Ending, IntArray, Outcome, Sampling, Segment, Source, Tree

# Prompts are computed this many tokens at a time (at least one prompt), also ahead of the rows that wait for them.
PROMPT_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Trunk:
    """What several rollouts continue: a prompt, or a whole path of a tree.

    Attributes:
        name: for messages.
        segment: its last segment.
        tokens: the whole path.
        tree, end: where the path stands, where it is one of several that begin alike: at the end of segment `end`.
    """

    name: str
    segment: Segment
    tokens: IntArray
    tree: Tree | None = None
    end: int = 0


@dataclass(frozen=True)
class Said:
    """A turn of the policy that waits for its environment: its row, its text, and whether an end token closed it."""

    slot: int
    record: Record
    text: str
    ended: bool


class Scheduler:
    """Draws all records to their end."""

    def __init__(
        self,
        policy: Policy,
        sampling: Sampling,
        limits: Limits,
        trunks: Sequence[Trunk],
        records: Sequence[Record],
        *,
        path_limit: int,
        max_live_rows: int,
        policy_version: int,
        answering: Answering,
        static: StaticStep | None = None,
        substitute: Substitute | None = None,
    ) -> None:
        self.policy = policy
        self.sampling = sampling
        self.limits = limits
        self.trunks = trunks
        self.records = records
        self.path_limit = path_limit
        self.policy_version = policy_version
        self.supports = SupportLog()
        self._waiting = deque(index for index, record in enumerate(records) if record.outcome is None)
        slots = max(1, min(max_live_rows, len(self._waiting))) if static is None else static.shapes.rows
        self._rows = Rows(slots)
        self._engine = Engine(policy, sampling, self._rows, static)
        self._prompted: dict[int, Prompted] = {}
        self._left = np.bincount([records[index].trunk for index in self._waiting], minlength=len(trunks))
        self._ends = EndTokens(policy.end_ids, policy.vocabulary_size)
        self._strings = StopStrings(limits.stop_strings, policy)
        self._answering = answering
        self._substitute = substitute

    def run(self) -> None:
        """Until every record has an outcome."""
        while self._waiting or self._rows.live:
            if self._is_late():
                self._stop_all()
                return
            while self._waiting and self._rows.live < self._rows.slots:
                self._admit()
            if self._rows.live:
                self._settle(self._ended(*self._take(np.arange(self._rows.live), self._engine.step())))

    def _admit(self) -> None:
        """Let waiting rollouts into the free slots, and draw their first tokens."""
        count = min(len(self._waiting), self._rows.slots - self._rows.live)
        entering = [self._waiting.popleft() for _ in range(count)]
        slots, logits = [], []
        for trunk, members in groupby(entering, key=lambda index: self.records[index].trunk):
            own = list(members)
            if trunk not in self._prompted:
                self._compute_prompts(trunk)
            prompted = self._prompted[trunk]
            taken = self._engine.admit(prompted, len(own))
            self._rows.rollout[taken] = own
            self._rows.key[taken] = [self.records[index].key for index in own]
            slots.append(taken)
            logits.append(prompted.logits.expand(len(own), -1))
        entered = np.concatenate(slots)
        over = self._substituted(entered.tolist())
        draws = np.array([slot not in over for slot in entered.tolist()])
        if draws.any():
            self._begin_turn(entered[draws])
            first = self._engine.draw(torch.cat(logits)[torch.from_numpy(draws)], entered[draws])
            over |= self._ended(*self._take(entered[draws], first))
        self._settle(over)

    def _compute_prompts(self, first: int) -> None:
        """Compute the prompt of trunk `first`, and as many after it as go into one forward pass."""
        chosen, tokens = [first], len(self.trunks[first].tokens)
        for trunk in range(first + 1, len(self.trunks)):
            tokens += len(self.trunks[trunk].tokens)
            if tokens > PROMPT_TOKENS_AT_ONCE or len(chosen) == self._engine.prompt_room:
                break
            if self._left[trunk]:
                chosen.append(trunk)
        together = [self.trunks[trunk] for trunk in chosen]
        paths = [(trunk.tree, trunk.end) for trunk in together if trunk.tree is not None]
        if len(paths) == len(together):
            prompted = self._engine.compute_paths(paths)
        else:
            prompted = self._engine.compute_prompts([trunk.tokens for trunk in together])
        self._prompted.update(zip(chosen, prompted, strict=True))

    def _begin_turn(self, slots: IntArray) -> None:
        """Set the budget of the turn that starts here."""
        rows = self._rows
        earlier = np.array([len(self.records[index].earlier) for index in rows.rollout[slots]])
        turn, path = self.limits.max_new_tokens - earlier, self.path_limit - rows.path[slots]
        rows.drawn[slots] = 0
        rows.allowed[slots] = np.minimum(turn, path)
        rows.cut[slots] = np.where(turn <= path, Stop.LENGTH, Stop.PATH_LENGTH)

    def _take(self, slots: IntArray, drawn: Draws) -> tuple[IntArray, IntArray]:
        """Keep one drawn token for each of `slots`; returns the slots whose turn is over, and why."""
        rows = self._rows
        rows.record(slots, drawn.tokens, drawn.log_probs)
        if drawn.counts is not None and drawn.kept is not None:
            self.supports.add(rows.rollout[slots], drawn.counts, drawn.kept)
        stops = np.where(rows.drawn[slots] >= rows.allowed[slots], rows.cut[slots], Stop.NONE)
        for place in np.flatnonzero(self._strings.suspects(drawn.tokens)):
            if self._strings.find(self.policy.decode(self._turn_tokens(int(slots[place])))) is not None:
                stops[place] = Stop.STOP_STRING
        stops[self._ends(drawn.tokens)] = Stop.END_TOKEN
        over = np.flatnonzero(stops)
        return slots[over], stops[over]

    def _settle(self, over: dict[int, Said | None]) -> None:
        """Go on after these turns: rows that are answered go on together, the others leave.

        Args:
            over: by slot, what waits for its environment, or None where the rollout is over.
        """
        gone: list[int] = []
        while over:
            asked = [said for said in over.values() if said is not None]
            turns = self._answering.ask([respond_call(said.record, said.text) for said in asked])
            answers = {said.slot: self._answer(said, turn) for said, turn in zip(asked, turns, strict=True)}
            going = [slot for slot, answer in answers.items() if answer is not None]
            gone += [slot for slot in over if answers.get(slot) is None]
            over = self._substituted(going)
            drawing = np.array([slot for slot in going if slot not in over], np.int64)
            if len(drawing):
                logits = self._engine.extend(drawing, [self._read(slot) for slot in drawing.tolist()])
                self._begin_turn(drawing)
                over |= self._ended(*self._take(drawing, self._engine.draw(logits, drawing)))
        if gone:
            self._leave(np.array(gone))

    def _ended(self, slots: IntArray, stops: IntArray) -> dict[int, Said | None]:
        """Keep the turns that were drawn to their end; by slot, what waits for its environment."""
        return {
            slot: self._end_turn(slot, Stop(stop)) for slot, stop in zip(slots.tolist(), stops.tolist(), strict=True)
        }

    def _substituted(self, slots: Sequence[int]) -> dict[int, Said | None]:
        """Let the substitute take the turns that it wants; by slot, what waits for its environment."""
        if self._substitute is None or not slots:
            return {}
        records = [self.records[self._rows.rollout[slot]] for slot in slots]
        taken = self._substitute.take([self._due(record) for record in records])
        return {
            slot: self._play(slot, record, turn)
            for slot, record, turn in zip(slots, records, taken, strict=True)
            if turn is not None
        }

    def _due(self, record: Record) -> Due:
        trunk = self.trunks[record.trunk]
        path = np.concatenate([trunk.tokens, *(segment.tokens for segment in record.segments)])
        dialogue = (trunk.segment.text, *(segment.text for segment in record.segments))
        return Due(record.id, record.turns, path, dialogue)

    def _play(self, slot: int, record: Record, turn: Taken) -> Said | None:
        """Put somebody else's turn on the row; the policy computes it when it next has to draw."""
        if int(self._rows.path[slot]) + len(record.unread) + len(turn.tokens) > self.path_limit:
            raise SamplingError(
                f"Rollout {record.id}: a turn of {len(turn.tokens)} tokens was put on its path, which has no room.",
                hint="let the substitute leave turns that do not fit to the policy.",
            )
        own = turn.tokens
        if not record.segments:  # nothing follows the prompt yet: the row begins as if its first token were drawn
            self._rows.pending[slot] = own[0]
            self._rows.path[slot] += 1
            own = own[1:]
        record.unread = np.concatenate([record.unread, own])
        record.segments.append(Segment(Source.EXPERT, turn.tokens, -1, text=turn.text))
        record.turns += 1
        if record.episode is None:
            record.outcome = Outcome(Ending.TERMINATED, "expert")
            return None
        return Said(slot, record, turn.text, ended=int(turn.tokens[-1]) in self.policy.end_ids)

    def _read(self, slot: int) -> IntArray:
        """What the row has to compute before the policy goes on."""
        record = self.records[self._rows.rollout[slot]]
        unread: IntArray = record.unread
        record.unread = unread[:0]
        return unread

    def _end_turn(self, slot: int, stop: Stop) -> Said | None:
        """Keep what was drawn; returns it where an environment answers, or None when the rollout is over."""
        record = self.records[self._rows.rollout[slot]]
        text = self.policy.decode(self._turn_tokens(slot))
        if stop is Stop.STOP_STRING:
            text = text[: self._strings.find(text)]
        count = self._rows.drawn[slot]
        segment = drawn_segment(
            self._rows.tokens[slot, :count],
            self._rows.log_probs[slot, :count],
            text=text.removeprefix(record.said),
            sampling=self.sampling,
            policy_version=self.policy_version,
        )
        record.segments.append(segment)
        record.turns += 1
        if not stop.complete:
            record.outcome = Outcome(Ending.TRUNCATED, stop.reason)
        elif record.episode is None:
            record.outcome = Outcome(Ending.TERMINATED, stop.reason)
        else:
            record.earlier, record.said = record.earlier[:0], ""
            return Said(slot, record, text, ended=stop is Stop.END_TOKEN)
        return None

    def _answer(self, said: Said, turn: Turn | Unanswered) -> IntArray | None:
        """The tokens that come next on this row, kept as unread, or None; the reward belongs to the turn before."""
        record = said.record
        if isinstance(turn, Unanswered):
            record.fail(turn.reason, Stop.TIME.reason if turn.late else "environment")
            return None
        try:
            answer = None if turn.observation is None else self.policy.bridge(turn.observation, ended_turn=said.ended)
        except Exception as error:
            record.fail(f"{turn_name(record)} raised {said_by(error)}")
            return None
        record.segments[-1] = replace(record.segments[-1], reward=float(turn.reward))
        if turn.ending is not None or turn.observation is None or answer is None:
            record.outcome = Outcome(turn.ending or Ending.TERMINATED, "environment")
            return None
        if record.turns >= self.limits.max_turns:
            record.outcome = Outcome(Ending.TRUNCATED, "turns")
            return None
        if int(self._rows.path[said.slot]) + len(record.unread) + len(answer) >= self.path_limit:
            record.outcome = Outcome(Ending.TRUNCATED, Stop.PATH_LENGTH.reason)
            return None
        record.segments.append(Segment(Source.ENVIRONMENT, answer, -1, text=turn.observation))
        record.unread = np.concatenate([record.unread, answer])
        return answer

    def _turn_tokens(self, slot: int) -> IntArray:
        """All tokens of the turn, with those that were in the tree before."""
        drawn = self._rows.tokens[slot, : self._rows.drawn[slot]]
        return np.concatenate([self.records[self._rows.rollout[slot]].earlier, drawn])

    def _leave(self, slots: IntArray) -> None:
        """Free the slots, and the prompts that nobody continues any more."""
        trunks = np.array([self.records[index].trunk for index in self._rows.rollout[slots]])
        self._engine.release(slots)
        np.subtract.at(self._left, trunks, 1)
        for trunk in np.unique(trunks[self._left[trunks] == 0]).tolist():
            self._engine.forget(self._prompted.pop(trunk))

    def _stop_all(self) -> None:
        """The time is over: live rollouts are cut off, waiting ones never were."""
        slots = np.arange(self._rows.live)
        for slot in slots.tolist():
            self._end_turn(slot, Stop.TIME)
        for index in self._waiting:
            reason = f"not started within {self.limits.timeout_seconds} seconds"
            self.records[index].fail(reason, Stop.TIME.reason)

    def _is_late(self) -> bool:
        return self._answering.deadline is not None and time.monotonic() >= self._answering.deadline
