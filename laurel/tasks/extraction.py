"""From what a data set calls its answer to the gold answer itself."""

from __future__ import annotations

from collections.abc import Callable

Extractor = Callable[[str], str | None]


def after_marker(marker: str) -> Extractor:
    """What follows the last occurrence of `marker`, without white space around it; None without the marker.

    GSM8K writes its answer so: "... She makes 9 * 2 = $18 every day.\\n#### 18" gives "18" for the marker "####".
    """

    def extract(text: str) -> str | None:
        _, found, rest = text.rpartition(marker)
        return rest.strip() if found else None

    return extract


def last_boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{...}`, with nested braces; None where there is none that closes."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index].strip()
    return None


def extractor(extract: str | Extractor) -> Extractor:
    """A function as it is; "boxed" as `last_boxed`; any other text as the marker that the answer follows."""
    if not isinstance(extract, str):
        return extract
    return last_boxed if extract == "boxed" else after_marker(extract)
