"""Run the demo, with its control, and draw what it printed: `make picture` writes docs/demo.svg.

Exits with 1 if the demo missed its target, so that no picture shows a run that did not happen.
"""

import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from laurel.demonstration import demo

PICTURE = Path(__file__).with_name("demo.svg")
WIDTH = 92


def main() -> int:
    """Draw; the exit status."""
    console = Console(record=True, width=WIDTH, force_terminal=False)
    with tempfile.TemporaryDirectory() as folder:
        result = demo(seed=0, run=Path(folder) / "demo", control=True, console=console)
        picture = console.export_svg(title="laurel demo --control").replace(f"{folder}/", "runs/")
    # Fonts are not fetched from anywhere: a reader's own monospace font will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code, ", ""))
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
