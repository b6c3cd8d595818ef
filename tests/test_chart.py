"""The learning curve in the terminal."""

from __future__ import annotations

from laurel.chart import curve


def test_a_rising_line_rises() -> None:
    drawn = curve([(step, step / 7) for step in range(8)], width=8, height=2, low=0, high=1)
    # Eight columns over two rows of eight levels: heights 0, 2.3, 4.6, 6.9, 9.1, 11.4, 13.7, 16 eighths.
    assert drawn.splitlines() == ["       1 │    ▁▃▆█", "       0 │ ▂▅▇████", "          0      7"]


def test_constant_and_missing_values() -> None:
    assert "nothing measured" in curve([(0, float("nan"))], label="reward")
    drawn = curve([(0, 0.5), (1, 0.5)], height=1, label="reward")
    assert drawn.splitlines()[0].endswith("reward")
    assert drawn.splitlines()[1] == "     0.5 │  "
