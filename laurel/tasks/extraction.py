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


def last_code_block(text: str) -> str | None:
    """What stands in the last fenced block that is marked as Python, or, if none is, in the last one; None without any.

        "So:\\n```python\\nx = 1\\n```\\nDone." gives "x = 1\\n".

    A block that was cut off, and never closes, counts up to the end of the text.
    """
    blocks: list[tuple[str, str]] = []
    fence: str | None = None
    for line in text.splitlines(keepends=True):
        mark = line.strip()
        if fence is None and mark.startswith("```"):
            fence = mark[: len(mark) - len(mark.lstrip("`"))]
            blocks.append((mark.lstrip("`").strip().lower(), ""))
        elif fence is not None and mark == fence:
            fence = None
        elif fence is not None:
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + line)
    marked = [code for language, code in blocks if language in ("python", "py", "python3")]
    return marked[-1] if marked else blocks[-1][1] if blocks else None
