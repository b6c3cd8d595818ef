"""Compounding error: what cloning costs as answers grow longer, what asking the expert on the way saves, and when not.

    python -m studies.compounding_error

An expert walks along a path of T steps; a step that ends beside the path costs 1. A learner that errs with probability
eps wherever it was taught costs eps T (T + 1) / 2 if it was taught on the expert's path alone, since beside it nobody
showed it the way back, and eps T if it was taught where it goes itself (DAgger). The control has no way back: there it
does not matter what the learner knows. Costs are exact, by recursion over the two states; the lists of T and eps are
the only choices.
"""

from __future__ import annotations

import argparse
from typing import Any

from laurel.theory import chain_cost, log_log_slope, taught_everywhere, taught_on_path
from studies.picture import Line, Panel
from studies.publishing import publish, table

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


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
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
    panels = []
    for chain in CHAINS:
        lines = []
        for colour, error in enumerate(ERRORS[1:]):
            for learner in LEARNERS:
                costs = found[error, chain, learner]["costs"]
                label = f"{learner}, eps = {error:g}"
                dashed = learner == "DAgger"  # or one of two equal lines would hide the other
                lines.append(Line(label, HORIZONS, costs, colour=colour, dashed=dashed, marked=not dashed))
        title = f"The path {'can be reached again' if CHAINS[chain] else 'cannot be reached again'}"
        panels.append(Panel(title, "steps T", "expected cost", lines, log_x=True, log_y=True, y_range=(5e-4, 300)))
    numbers = {
        "horizons": HORIZONS,
        **{f"eps {error:g}, {chain}, {learner}": one for (error, chain, learner), one in found.items()},
    }
    publish("compounding_error", "What an error costs", numbers, panels)


if __name__ == "__main__":
    main()
