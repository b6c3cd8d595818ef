"""What a recipe can name: every part of every kind, with what it is and its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from laurel.errors import unknown_key
from laurel.page import Page
from laurel.recipe import registries

Kinds = Mapping[tuple[str, ...], Mapping[str, Callable[..., Any]]]


def parts(kind: str | None = None, name: str | None = None) -> Page:
    """Every part that a recipe can name; those of one kind with their settings; or all that is known of one.

        print(laurel.parts("reward", "code"))

    Args:
        kind: the key of a recipe under which it stands, such as reward, tasks, environment or algorithm.
        name: one of that kind.

    Raises:
        ConfigurationError: there is no such kind or name.
    """
    if kind is None:
        return Page(Group(*(_kind(keys, registry) for keys, registry in _kinds().items())))
    keys, registry = next(((keys, found) for keys, found in _kinds().items() if kind in keys), ((), {}))
    if not keys:
        every = [key for keys in _kinds() for key in keys]
        raise unknown_key("what a recipe names", kind, every)
    if name is None:
        return Page(_kind(keys, registry, settings=True))
    if name not in registry:
        raise unknown_key(kind, name, registry)
    return Page(_whole(keys, name, registry[name]))


def _kinds() -> Kinds:
    """The registries, each with all the keys that it stands under."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    every = registries()
    for key, registry in every.items():
        names = tuple(sorted(registry))
        found[names] = (*found.get(names, ()), key)
    return {keys: every[keys[0]] for keys in found.values()}


def _kind(keys: tuple[str, ...], registry: Mapping[str, Callable[..., Any]], settings: bool = False) -> RenderableType:
    """A table of one kind: names, and what each is; with `settings` also how it is called."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name in sorted(registry):
        said = Text(first_sentence(registry[name]))
        if settings:
            said.append(f"\n{_settings(registry[name])}", style="dim")
        grid.add_row(Text(f"  {name}"), said)
    return Group(Text(_title(keys), style="bold"), grid, Text())


def _whole(keys: tuple[str, ...], name: str, part: Callable[..., Any]) -> RenderableType:
    """All that is written about a part."""
    told = (inspect.getdoc(part) or "").split("\n\n")
    shown = (Group(_paragraph(text), Text()) for text in told)
    return Group(Text(f"{keys[0]}: {{name: {name}, ...}}", style="bold"), Text(f"  {_settings(part)}\n"), *shown)


def _paragraph(text: str) -> RenderableType:
    """A paragraph that fits its page: lines are joined where only the page's width had parted them."""
    lines = text.split("\n")
    if not any(line.startswith(" ") for line in lines):
        return Text(" ".join(lines))
    if lines[0].startswith(" "):
        return Text(text)  # an equation or an example
    entries: list[str] = []
    for line in lines[1:]:
        if line.startswith("     "):
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line.strip())
    return Group(Text(lines[0]), *(Padding(Text(entry), (0, 0, 0, 4)) for entry in entries))


def _title(keys: tuple[str, ...]) -> str:
    return keys[0] + (f" (also {', '.join(keys[1:])})" if len(keys) > 1 else "")


def first_sentence(part: Callable[..., Any]) -> str:
    """The first paragraph of what is written about a part, as one line."""
    return " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())


def _settings(part: Callable[..., Any]) -> str:
    """The settings of a part: `name` where one has to be given, `name=value` where there is a default."""
    said = []
    for parameter in inspect.signature(part).parameters.values():
        needed = parameter.default is parameter.empty
        many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        said.append(parameter.name if needed or many else f"{parameter.name}={parameter.default!r}")
    return ", ".join(said) or "no settings"
