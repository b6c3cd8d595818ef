"""Where a demo keeps its runs."""

from __future__ import annotations

from pathlib import Path

from laurel.demo import _free


def test_a_demo_never_touches_an_earlier_one_and_keeps_the_whole_name(tmp_path: Path) -> None:
    wanted = tmp_path / "my-demo-x"
    for name in ("my-demo-x", "my-demo-x-2", "my-demo-x-3"):
        free = _free(wanted)
        assert free == tmp_path / name
        free.mkdir()
