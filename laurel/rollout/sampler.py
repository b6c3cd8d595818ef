"""The local sampler: trees of experience, drawn from a policy's own parameters on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby

import numpy as np
import torch

from laurel.credit import Place, continuation_name, cut
from laurel.errors import PolicyError, SamplingError
from laurel.policy import Policy
from laurel.rollout.answering import Answering
from laurel.rollout.draws import rollout_key
from laurel.rollout.engine import COPIED_PREFIX_TOKENS
from laurel.rollout.episodes import replay_episodes, start_episodes
from laurel.rollout.limits import Job, Limits
from laurel.rollout.records import Record, grow, with_supports
from laurel.rollout.scheduler import Scheduler, Trunk
from laurel.rollout.static import StaticShapes, StaticStep
from laurel.rollout.stopping import check_stop_strings
from laurel.rollout.substitute import Substitute
from laurel.tasks.task import Prompt
from laurel.tree import IntArray, Sampling, Segment, Source, Tree

_NOTHING = np.empty(0, np.int64)
TURNS = (Source.POLICY, Source.EXPERT)


class LocalSampler:
    """Draws rollouts in one process; one forward pass serves all live rows.

    The same seed, tree ids, tasks and weights give the same tokens, whatever else is sampled beside them and however
    many rows live at once.

    Args:
        policy: its own parameters are used, in place, without a copy.
        sampling: the distribution that is drawn from, recorded with each segment.
        limits: the budgets.
        max_live_rows: most rollouts that are drawn at the same time; others wait.
        seed: the run's seed.
        static: decode in fixed shapes (on CUDA as one captured graph); None: where the policy is on CUDA.

    Raises:
        ConfigurationError: for a stop string that no text of this policy can hold.
    """

    def __init__(
        self,
        policy: Policy,
        sampling: Sampling,
        limits: Limits,
        *,
        max_live_rows: int = 256,
        seed: int,
        static: bool | None = None,
    ) -> None:
        if max_live_rows < 1:
            raise SamplingError(f"max_live_rows must be at least 1, got {max_live_rows}.", hint="256 is a good start.")
        check_stop_strings(limits.stop_strings, policy)
        self.policy = policy
        self.sampling = sampling
        self.limits = limits
        self.max_live_rows = max_live_rows
        self.seed = seed
        self._is_static = policy.device.type == "cuda" if static is None else static
        self._static: StaticStep | None = None

    @property
    def path_limit(self) -> int:
        """Most tokens on a path."""
        own = self.limits.max_path_tokens
        return self.policy.context_length if own is None else min(own, self.policy.context_length)

    @torch.inference_mode()
    def collect(self, jobs: Sequence[Job], *, policy_version: int, substitute: Substitute | None = None) -> list[Tree]:
        """One tree per job, in order. Outcomes say how each rollout ended; they are not scored yet.

        Args:
            jobs: what to sample.
            policy_version: number of optimiser steps behind the weights, stamped on everything that is drawn.
            substitute: who may take turns in the policy's place; None: nobody.

        Raises:
            SamplingError: for a task's own prompt that leaves no room for an answer, a tree id that stands twice, or
                logits that are not finite.
            EnvironmentFault: if too many calls of environments hang: see `Answering`.
        """
        ids = [job.tree_id for job in jobs]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise SamplingError(
                f"Two jobs have the tree id {twice!r}.", hint="make them unique: draws follow from them."
            )
        answering = Answering(self.limits)
        records = [
            [self._record(f"{job.tree_id}.{sample}", index) for sample in range(job.samples)]
            for index, job in enumerate(jobs)
        ]
        prompts = start_episodes(jobs, records, answering)
        trunks = [
            self._trunk(job, job.task.prompt) if job.environment is None else self._given(job, prompt, own)
            for job, prompt, own in zip(jobs, prompts, records, strict=True)
        ]
        self._run(trunks, [record for own in records for record in own], policy_version, answering, substitute)
        return [
            grow(job.tree_id, job.task.id, [trunk.segment], [(0, own)], self._marker)
            for job, trunk, own in zip(jobs, trunks, records, strict=True)
        ]

    def branch(self, tree: Tree, segment: int, at: int | None = None, *, samples: int, policy_version: int) -> Tree:
        """`branch_all` at one place of one tree: after `at` tokens of a segment; None: after all of them."""
        place = Place(segment, len(tree.segments[segment]) if at is None else at)
        return self.branch_all([tree], [[place]], samples=samples, policy_version=policy_version)[0]

    @torch.inference_mode()
    def branch_all(
        self,
        trees: Sequence[Tree],
        places: Sequence[Sequence[Place]],
        *,
        samples: int,
        policy_version: int,
        jobs: Sequence[Job] | None = None,
    ) -> list[Tree]:
        """The trees with `samples` new continuations of each place, drawn from the policy as it is now, as one batch.

        What the paths up to the places of a tree share is computed once. A continuation draws what is left of its
        turn's budget. Rollouts are named after the place, `f"{rollout id}@{position}.{sample}"`, so that branching
        elsewhere, or together with other trees, gives the same draws.

        Where the tree's job has an environment, each continuation gets an episode of its own: it is started with the
        id of the rollout that is continued, hears the turns before the place again, and must answer them as before.

        Args:
            trees: where to branch.
            places: for each tree; segments are split in two where they are cut in the middle.
            samples: number of continuations of each place.
            policy_version: as in `collect`.
            jobs: what each tree was collected for; without, a continuation is one turn that nobody answers.

        Raises:
            SamplingError: if a place is a leaf that ended, or leaves no room to draw.
            EnvironmentFault: if too many calls of environments hang: see `Answering`.
        """
        answering = Answering(self.limits)
        trunks: list[Trunk] = []
        records: list[Record] = []
        grown: list[tuple[Tree, list[tuple[int, list[Record]]]]] = []
        for tree, chosen in zip(trees, places, strict=True):
            tree, ends = cut(tree, chosen)
            own: list[tuple[int, list[Record]]] = []
            for end in dict.fromkeys(ends):
                trunk = self._continued(tree, end)
                own.append((end, self._continuations(tree, end, len(trunks), samples)))
                trunks.append(trunk)
                records += own[-1][1]
            grown.append((tree, own))
        if jobs is not None:
            replay_episodes([(job, tree, own) for job, (tree, own) in zip(jobs, grown, strict=True)], answering)
        if records:
            self._run(trunks, records, policy_version, answering)
        return [grow(tree.id, tree.task_id, tree.segments, own, self._marker) for tree, own in grown]

    def _continued(self, tree: Tree, end: int) -> Trunk:
        """The path up to the end of a segment."""
        place = tree.segments[end]
        if place.outcome is not None:
            raise SamplingError(
                f"Tree {tree.id}: segment {end} ends a rollout ({place.outcome.stop_reason}); nothing follows it.",
                hint="branch before its end, with at=.",
            )
        tokens = np.concatenate([tree.segments[index].tokens for index in tree.path(end)])
        trunk = Trunk(f"tree {tree.id}", place, tokens, tree, end)
        self._check_room(trunk)
        return trunk

    def _continuations(self, tree: Tree, end: int, trunk: int, samples: int) -> list[Record]:
        """Records that go on from the end of a segment, in the middle of a turn if that is where it ends."""
        path = [tree.segments[index] for index in tree.path(end)]
        earlier, said = _open_turn(path)
        sources = [source for source, _ in groupby(path, key=lambda segment: segment.source)]
        name = path[-1].rollout_id or tree.id
        position = sum(map(len, path))
        records = []
        for sample in range(samples):
            record = self._record(continuation_name(name, position, sample), trunk, earlier, said)
            record.turns = sum(source in TURNS for source in sources) - (sources[-1] in TURNS)
            records.append(record)
        return records

    @property
    def _marker(self) -> int:
        return min(self.policy.end_ids, default=0)

    def _run(
        self,
        trunks: Sequence[Trunk],
        records: Sequence[Record],
        policy_version: int,
        answering: Answering,
        substitute: Substitute | None = None,
    ) -> None:
        scheduler = Scheduler(
            self.policy,
            self.sampling,
            self.limits,
            trunks,
            records,
            path_limit=self.path_limit,
            max_live_rows=self.max_live_rows,
            policy_version=policy_version,
            answering=answering,
            static=self._static_step(trunks, records) if self._is_static else None,
            substitute=substitute,
        )
        with nullcontext() if self._is_static else self.policy.decoding():
            scheduler.run()
        with_supports(records, scheduler.supports)

    def _static_step(self, trunks: Sequence[Trunk], records: Sequence[Record]) -> StaticStep:
        """The step of the last call, where its shapes are enough; its captured graph goes on serving."""
        lengths = np.array([len(trunk.tokens) for trunk in trunks])
        samples = np.bincount([record.trunk for record in records], minlength=len(trunks))
        shared = lengths > COPIED_PREFIX_TOKENS
        shapes = StaticShapes.of(min(self.max_live_rows, len(records)), lengths[shared], samples[shared])
        if self._static is not None:
            shapes = shapes.cover(self._static.shapes)
        if self._static is None or self._static.shapes != shapes:
            self._static = StaticStep(self.policy, self.sampling, shapes)
        self._static.arena.clear()
        return self._static

    def _record(self, name: str, trunk: int, earlier: IntArray = _NOTHING, said: str = "") -> Record:
        return Record(name, rollout_key(self.seed, name), trunk, earlier=earlier, said=said)

    def _trunk(self, job: Job, prompt: Prompt) -> Trunk:
        try:
            tokens = self.policy.encode_prompt(prompt)
        except PolicyError as error:
            raise SamplingError(f"The prompt of task {job.task.id}: {error.message}", hint=error.hint) from error
        text = prompt if isinstance(prompt, str) else self.policy.decode(tokens)
        trunk = Trunk(f"task {job.task.id}", Segment(Source.PROMPT, tokens, -1, text=text), tokens)
        self._check_room(trunk)
        return trunk

    def _given(self, job: Job, prompt: Prompt, records: Sequence[Record]) -> Trunk:
        """The prompt that an environment gives; one that cannot be used fails this job's rollouts and no others.

        What stands in its place then is a single token, which no loss ever reaches.
        """
        try:
            return self._trunk(job, prompt)
        except SamplingError as error:
            for record in records:
                if record.outcome is None:
                    record.fail(f"the environment's prompt for task {job.task.id} cannot be used: {error.message}")
        tokens = np.array([self._marker])
        return Trunk(f"task {job.task.id}", Segment(Source.PROMPT, tokens, -1, text=str(prompt)), tokens)

    def _check_room(self, trunk: Trunk) -> None:
        if len(trunk.tokens) >= self.path_limit:
            raise SamplingError(
                f"The path of {trunk.name} has {len(trunk.tokens)} tokens already, and may have {self.path_limit}.",
                hint="shorten or leave out the prompt, raise max_path_tokens, or take a model with a longer context.",
            )


def _open_turn(path: Sequence[Segment]) -> tuple[IntArray, str]:
    """Tokens and text of the policy's turn that a path ends in; nothing if it ends in another's."""
    parts: list[Segment] = []
    for segment in reversed(path):
        if segment.source is not Source.POLICY:
            break
        parts.insert(0, segment)
    return np.concatenate([_NOTHING, *(part.tokens for part in parts)]), "".join(part.text for part in parts)
