"""A person at a terminal: two answers are shown, and a key is pressed."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from laurel.preferences.teachers import Query

KEYS: dict[str, float | None] = {"1": 1.0, "2": 0.0, "=": 0.5, "s": None}
"""What a key says of a pair."""
UNDO, QUIT = "u", "q"


@dataclass(frozen=True)
class TerminalTeacher:
    """A person who is asked while a run goes on: 1 the first, 2 the second, = equal, s skip, q stops the run.

    A run that is stopped so can be resumed, and asks nothing twice (`laurel.AskedReward`).

    Attributes:
        press: returns one key, "" at the end of the input; None: the keyboard.
        show: prints a text.

    Raises (when called):
        KeyboardInterrupt: q, Ctrl-C, or the end of the input.
    """

    press: Callable[[], str] | None = None
    show: Callable[[str], None] = print

    def __call__(self, query: Query) -> float | None:
        others = {QUIT: "stop"}
        with single_keys():
            self.show(f"\n{shown(query)}\n{legend(others)}")
            key = pressed_key(self.press or keyboard, self.show, others)
        if key == QUIT:
            raise KeyboardInterrupt
        return KEYS[key]


def legend(others: Mapping[str, str]) -> str:
    """What the keys mean, in a line."""
    said = {"1": "the first", "2": "the second", "=": "equal", "s": "skip", **others}
    return "   ".join(f"{key} {meaning}" for key, meaning in said.items())


def shown(query: Query) -> str:
    """A question as text for a terminal: control characters, which could move its cursor, are spelled out."""
    prompt = query.task.prompt
    asked = prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    first, second = query.answers
    return "\n".join((visible(asked), "", "--- 1 ---", visible(first), "", "--- 2 ---", visible(second), ""))


def visible(text: str) -> str:
    """The text with control and format characters other than line ends and tabs spelled out.

    Example: a text that would clear the screen shows as its escape sequence, \\x1b[2J.
    """
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else character.encode("unicode_escape").decode()
        for character in text
    )


@contextmanager
def single_keys() -> Iterator[None]:
    """Keys are read one by one inside of the block, without Enter and without being echoed, if this is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)  # what was typed already stays
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def keyboard() -> str:
    """One key inside of `single_keys`, where standard input is a terminal; else the first of a line; "" at the end.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.strip()[:1] or (" " if line else "")
    key = sys.stdin.read(1)
    return "" if key == "\x04" else key  # Ctrl-D


def pressed_key(press: Callable[[], str], show: Callable[[str], None], others: Mapping[str, str]) -> str:
    """A key that means something: one of `KEYS`, or of `others`; QUIT at the end of the input.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    while True:
        key = press().lower()
        if key == "":
            return QUIT
        if key in KEYS or key in others:
            return key
        show(f"That key means nothing here. {legend(others)}")
