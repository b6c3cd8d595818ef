"""Pictures are well-formed, and points stand where the numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from laurel.picture import HEIGHT, WIDTH, Line, Panel, draw, ticks


def paths(svg: str) -> list[list[tuple[float, float]]]:
    """The points of the drawn lines, without the grid and the legend."""
    found = re.findall(r'<path d="(M[^"]*) " fill="none"', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+),([\d.]+)", path)] for path in found]


def test_points_stand_where_the_numbers_say() -> None:
    panel = Panel("t", "x", "y", [Line("", [0, 5, 10], [0, 1, 4])], y_range=(0, 4))
    ((first, middle, last),) = paths(draw("title", [panel]))
    inside = 0.04 * 10 / 10.8 * WIDTH  # a margin of 4 % on both sides of x
    assert first == pytest.approx((inside, HEIGHT), abs=0.06)
    assert middle == pytest.approx((WIDTH / 2, 0.75 * HEIGHT), abs=0.06)
    assert last == pytest.approx((WIDTH - inside, 0), abs=0.06)


def test_a_logarithm_spreads_powers_of_ten_evenly() -> None:
    line = Line("", [1, 10, 100], [0.01, 0.1, 1])
    ((first, middle, last),) = paths(draw("title", [Panel("t", "x", "y", [line], log_x=True, log_y=True)]))
    assert (first, middle, last) == ((0, HEIGHT), (WIDTH / 2, HEIGHT / 2), (WIDTH, 0))


def test_a_gap_stays_a_gap() -> None:
    svg = draw("title", [Panel("t", "x", "y", [Line("", [0, 1, 2, 3], [1.0, float("nan"), 2.0, 3.0])])])
    (path,) = re.findall(r'<path d="(M[^"]*) " fill="none"', svg)
    assert path.count("M") == 2 and path.count("L") == 1


def test_a_picture_is_xml_with_every_label() -> None:
    lines = [
        Line("a < b & c", [1, 2], [1, 2], low=[0.5, 1], high=[1.5, 3], marked=True),
        Line("bound", [1, 2], [3, 3], dashed=True, colour=1),
    ]
    root = ElementTree.fromstring(draw("title", [Panel("one", "across", "up", lines), Panel("two", "x", "y", lines)]))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"title", "one", "two", "across", "up"} <= set(texts) and texts.count("a < b & c") == 2
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polygon"))) == 2
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 4


def test_ticks_are_round() -> None:
    assert ticks(0, 1, log=False) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(-3, 47, log=False) == [0, 10, 20, 30, 40]
    assert ticks(0.02, 3000, log=True) == [0.1, 1, 10, 100, 1000]


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="finite"):
        draw("title", [Panel("t", "x", "y", [Line("", [1.0], [float("nan")])])])


def test_panels_stand_in_rows() -> None:
    panel = Panel("t", "x", "y", [Line("", [0, 1], [0, 1])])
    places = re.findall(r"translate\((\d+),(\d+)\)", draw("title", [panel] * 3, columns=2))
    assert places[0][1] == places[1][1] != places[2][1] and places[0][0] == places[2][0] != places[1][0]
    row = ElementTree.fromstring(draw("title", [panel] * 3))
    grid = ElementTree.fromstring(draw("title", [panel] * 3, columns=2))
    assert int(grid.attrib["width"]) * 3 == int(row.attrib["width"]) * 2
    assert int(grid.attrib["height"]) == 2 * int(row.attrib["height"])
