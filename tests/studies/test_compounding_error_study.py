"""The study of compounding error says what the theory says, and shows where the first order ends."""

from __future__ import annotations

from studies.compounding_error import CHAINS, ERRORS, HORIZONS, measured


def test_slopes_of_the_study() -> None:
    slopes = {
        (chain, learner): round(measured(ERRORS[0], learner, recoverable)["slope"], 2)
        for chain, recoverable in CHAINS.items()
        for learner in ("cloning", "DAgger")
    }
    assert slopes == {
        ("with a way back", "cloning"): 1.97,
        ("with a way back", "DAgger"): 1.00,
        ("without", "cloning"): 1.97,
        ("without", "DAgger"): 1.97,
    }


def test_a_cost_cannot_exceed_the_number_of_steps() -> None:
    """With frequent errors a clone is lost early: its cost bends from the square of T towards T itself."""
    often = measured(ERRORS[-1], "cloning", recoverable=True)
    assert all(cost < horizon for cost, horizon in zip(often["costs"], HORIZONS, strict=True))
    assert 1 < often["last_slope"] < often["slope"] - 0.2
