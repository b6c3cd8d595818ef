"""What a run was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

from laurel import __version__

_PACKAGES = ("torch", "transformers", "numpy")
_GIT_TIMEOUT_SECONDS = 10.0


def current_versions() -> dict[str, str]:
    """Versions of laurel, torch, transformers, numpy, python and the platform, and the working directory's commit.

    The commit ends in "-dirty" where tracked files were changed; it is missing outside a git checkout.
    """
    versions = {"laurel": __version__} | {package: _version(package) for package in _PACKAGES}
    versions["python"] = platform.python_version()
    versions["platform"] = platform.platform()
    commit = _commit()
    return versions | ({"commit": commit} if commit else {})


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
