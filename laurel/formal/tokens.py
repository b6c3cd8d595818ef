"""Metamath text as tokens with the place where each stands; comments are left out and included files read in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from laurel.errors import FormalError

# Files that include each other end, since each is read once; a chain of so many is a mistake all the same.
_MOST_FILES = 1000


class Token(NamedTuple):
    """A word of the text."""

    text: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """Where it stands, as errors say it."""
        return f"{self.file}, line {self.line}"


def tokens(text: str, name: str, folder: Path | None = None) -> Iterator[Token]:
    """The tokens of a database, in order.

    Args:
        text: of the outermost file.
        name: what errors call that file.
        folder: where included files are looked for; None: none may be included. A file outside of it is refused.

    Raises:
        FormalError: naming file and line, for a comment or an inclusion that is not one, a character that is not
            printable ASCII, or a file that cannot be read. A file that was read before is left out, as the language
            wants it.
    """
    sources = [_words(text, name)]
    included = {name}
    while sources:
        token = next(sources[-1], None)
        if token is None:
            sources.pop()
        elif token.text == "$[":
            file = _file_of(token, sources[-1])
            if file not in included:
                included.add(file)
                if len(included) > _MOST_FILES:
                    raise FormalError(f"{token.place}: more than {_MOST_FILES} files.", hint="include fewer.")
                sources.append(_words(_read(file, folder, token), file))
        else:
            yield token


def _words(text: str, file: str) -> Iterator[Token]:
    """The tokens of one file without its comments."""
    comment: Token | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        for word in line.split():
            token = Token(word, file, number)
            if not (word.isascii() and word.isprintable()):
                raise FormalError(f"{token.place}: {word[:40]!r} is not printable ASCII.", hint="spell it out.")
            if comment is not None:
                if word == "$)":
                    comment = None
                elif "$(" in word or "$)" in word:
                    raise FormalError(f"{token.place}: '{word}' inside of a comment.", hint="comments do not nest.")
            elif word == "$(":
                comment = token
            else:
                yield token
    if comment is not None:
        raise FormalError(f"{comment.place}: this comment has no end.", hint="end it with $).")


def _file_of(start: Token, words: Iterator[Token]) -> str:
    file, end = next(words, None), next(words, None)
    if file is None or end is None or end.text != "$]" or "$" in file.text:
        raise FormalError(f"{start.place}: this inclusion is not one.", hint="write $[ file.mm $].")
    return file.text


def _read(file: str, folder: Path | None, token: Token) -> str:
    if folder is None:
        raise FormalError(f"{token.place}: '{file}' cannot be included in a text.", hint="read the database of a file.")
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise FormalError(f"{token.place}: '{file}' lies outside of {folder}.", hint="put it beside the database.")
    return read_text(path, token.place)


def read_text(path: Path, where: str) -> str:
    """The text of a file.

    Raises:
        FormalError: naming `where`, if it cannot be read.
    """
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise FormalError(f"{where}: cannot read {path}: {error.strerror}.", hint="check the path.") from error
    except UnicodeDecodeError as error:
        raise FormalError(f"{where}: {path} is not ASCII text.", hint="Metamath databases are plain ASCII.") from error
