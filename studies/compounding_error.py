"""Compounding error: what cloning costs as answers grow longer, what asking the expert on the way saves, and when not.

    python -m studies.compounding_error

An expert walks along a path of T steps; a step that ends beside the path costs 1. A learner that errs with probability
eps wherever it was taught costs eps T (T + 1) / 2 if it was taught on the expert's path alone, since beside it nobody
showed it the way back, and eps T if it was taught where it goes itself (DAgger). The control has no way back: there it
does not matter what the learner knows. Costs are exact, by recursion over the two states; the lists of T and eps are
the only choices. Then the same by training: a tiny language model walks such a path turn by turn, taught by cloning or
by `laurel.dagger` (`studies.strayed_policy`), over several seeds.
"""

from __future__ import annotations

import argparse
from typing import Any

from laurel.picture import Line, Panel
from laurel.theory import chain_cost, log_log_slope, taught_everywhere, taught_on_path
from studies.publishing import publish, table
from studies.strayed_policy import HORIZONS as TURNS
from studies.strayed_policy import SEEDS, measured_costs, slope_with_interval

HORIZONS = (8, 16, 32, 64, 128, 256)
ERRORS = (1e-6, 1e-4, 1e-3, 1e-2)
"""The first is small enough for the first order in eps; at the last, a cloned answer of 256 tokens is lost early."""
LEARNERS = {"cloning": taught_on_path, "DAgger": taught_everywhere}
CHAINS = {"with a way back": True, "without": False}


def measured(error: float, learner: str, recoverable: bool) -> dict[str, Any]:
    """The costs for every T, their slope on logarithmic axes, and that of the last doubling."""
    policy = LEARNERS[learner](error)
    costs = [chain_cost(policy, horizon, recoverable=recoverable) for horizon in HORIZONS]
    last = log_log_slope(HORIZONS[-2:], costs[-2:])
    return {"costs": costs, "slope": log_log_slope(HORIZONS, costs), "last_slope": last}


def chain_panels(found: dict[tuple[float, str, str], dict[str, Any]]) -> list[Panel]:
    """One panel per chain."""
    panels = []
    for chain in CHAINS:
        lines = []
        for colour, error in enumerate(ERRORS[1:]):
            for learner in LEARNERS:
                costs = found[error, chain, learner]["costs"]
                label = f"{learner}, eps = {error:g}"
                dashed = learner == "DAgger"  # or one of two equal lines would hide the other
                lines.append(Line(label, HORIZONS, costs, colour=colour, dashed=dashed, marked=not dashed))
        title = f"Chain: the path {'can be reached again' if CHAINS[chain] else 'cannot be reached again'}"
        panels.append(Panel(title, "steps T", "expected cost", lines, log_x=True, log_y=True, y_range=(5e-4, 300)))
    return panels


def trained(seeds: int) -> tuple[dict[str, Any], list[Panel]]:
    """The same by training: numbers and one panel per chain."""
    found = measured_costs(seeds)
    numbers: dict[str, Any] = {}
    panels = []
    rows = []
    for chain, recoverable in CHAINS.items():
        lines = []
        for colour, learner in enumerate(LEARNERS):
            own, questions = found[learner, recoverable].costs, found[learner, recoverable].questions
            slope, interval = slope_with_interval(own)
            numbers[f"{chain}, {learner}"] = {
                "costs": own.tolist(),
                "questions": questions,
                "slope": slope,
                "interval": interval,
            }
            mean = own.mean(axis=0)
            shown = (f"{cost:.3g}" for cost in mean)
            power = f"{slope:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
            rows.append([chain, learner, *shown, power, f"{min(questions)} to {max(questions)}"])
            low, high = own.min(axis=0).tolist(), own.max(axis=0).tolist()
            label = f"{learner}: T^{slope:.2f}"
            lines.append(Line(label, TURNS, mean.tolist(), low=low, high=high, colour=colour, marked=True))
        title = f"Language model: {'a way back' if recoverable else 'no way back'}"
        panels.append(
            Panel(title, "turns T", "turns beside the path", lines, log_x=True, log_y=True, y_range=(3e-3, 4))
        )
    print(f"a tiny language model, mean of {seeds} seeds, and the power of T with its 95 % interval")
    print(table(["path", "learner", *(f"T = {turns}" for turns in TURNS), "slope", "questions"], rows))
    return {"turns": TURNS, "seeds": seeds, **numbers}, panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the trained part")
    arguments = parser.parse_args()
    found = {
        (error, chain, learner): measured(error, learner, recoverable)
        for error in ERRORS
        for chain, recoverable in CHAINS.items()
        for learner in LEARNERS
    }
    print("expected cost, and the power of T by which it grows")
    header = ["eps", "chain", "learner", *(f"T = {horizon}" for horizon in HORIZONS), "slope"]
    rows = [
        [f"{error:g}", chain, learner, *(f"{cost:.3g}" for cost in one["costs"]), f"{one['slope']:.2f}"]
        for (error, chain, learner), one in found.items()
    ]
    print(table(header, rows))
    by_training, panels = trained(arguments.seeds)
    numbers = {
        "horizons": HORIZONS,
        **{f"eps {error:g}, {chain}, {learner}": one for (error, chain, learner), one in found.items()},
        "a tiny language model": by_training,
    }
    publish("compounding_error", "What an error costs", numbers, [*chain_panels(found), *panels], columns=2)


if __name__ == "__main__":
    main()
