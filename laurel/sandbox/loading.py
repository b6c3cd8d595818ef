"""Running text as a Python module. This happens in confined processes and nowhere else (held by a lint test)."""

from __future__ import annotations

import linecache
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import CodeType, ModuleType


class Text(SourceFileLoader):
    """Loads a module from a text, once or piece by piece into one name space."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, path)
        self.code: CodeType | None = None

    def translate(self, text: str) -> None:
        """What is run next.

        Raises:
            SyntaxError, ValueError, RecursionError, MemoryError: if it is no Python.
        """
        # Tracebacks show lines of what no file holds.
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        self.code = self.source_to_code(text, self.path)  # type: ignore[arg-type]

    def get_code(self, fullname: str) -> CodeType | None:
        """See `importlib.abc.InspectLoader`."""
        return self.code


def new_module(name: str, loader: Text) -> ModuleType:
    """An empty module that imports of this name find."""
    spec = spec_from_loader(name, loader)
    if spec is None:  # only for loaders that refuse
        raise ImportError(name)
    module = module_from_spec(spec)
    sys.modules[name] = module
    return module


def run_text(text: str, name: str) -> ModuleType:
    """The module that `text` defines, after it ran."""
    loader = Text(name, f"{name.strip('_')}.py")
    loader.translate(text)
    module = new_module(name, loader)
    loader.exec_module(module)
    return module
