"""Line charts as SVG text: `laurel.picture`, where studies look for it."""

from laurel.picture import COLOURS, HEIGHT, WIDTH, Line, Panel, draw, ticks

__all__ = ["COLOURS", "HEIGHT", "WIDTH", "Line", "Panel", "draw", "ticks"]
