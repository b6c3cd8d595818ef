"""Checkpoints that are either whole or absent.

    checkpoints/step-000123/
        policy.safetensors, optimiser.safetensors, ...    one file per named group of tensors
        state.json                                        counters, cursors, random states
        manifest.json                                     size and SHA-256 of every file above; written last

A checkpoint is written to a hidden directory beside its place, every file is flushed to the disk, and one rename puts
it there. What a crash leaves behind is a hidden directory (removed at the next resume) and never half a checkpoint;
what a failing disk or a careless copy damages later is found by its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel.errors import RunError
from laurel.runs.phases import phase

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
STATE = "state.json"
KEEP = 2
_FORMAT = 1
_PREFIX = "step-"
_NAME = re.compile(rf"{_PREFIX}(\d{{6,}})")
_GROUP = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that is needed to go on after a step.

    Attributes:
        step: the last step that is part of it.
        path: its directory.
        tensors: tensors (on the CPU) by group and name.
        state: the JSON state.
        notes: newer checkpoints that had to be skipped, and why; empty when all is well.
    """

    step: int
    path: Path
    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]
    notes: tuple[str, ...] = ()


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first; not verified."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def place_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"{_PREFIX}{step:06d}"


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = KEEP,
) -> Path:
    """Write the checkpoint of a step, then remove all but the newest `keep`.

    Saving the same content for the same step again changes nothing.

    Raises:
        RunError: if the disk is full or not writable, if the state is no plain JSON, or if there is a whole checkpoint
            of this step with other content. Older checkpoints stay as they are.
    """
    if keep < 2:
        raise RunError(f"keep must be at least 2, got {keep}.", hint="with one, a damaged file loses the run.")
    text = _state_text(state)
    place = place_of(folder, step)
    hidden = folder / f".{place.name}.writing"
    try:
        if not folder.is_dir():
            folder.mkdir()
            flush(folder.parent)
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        manifest = _write_files(hidden, step, tensors, text)
        flush(hidden)
        phase("before_rename", step)
        if place.exists() and not _make_way(place, manifest):
            shutil.rmtree(hidden)
            return place
        hidden.rename(place)
        flush(folder)
        phase("after_rename", step)
        _remove_older(folder, keep)
    except RunError:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    except (OSError, _safetensors_error()) as error:
        shutil.rmtree(hidden, ignore_errors=True)
        whole = steps(folder)
        raise RunError(
            f"Saving the checkpoint of step {step} in {folder} failed: {error}.",
            hint="make room (or make it writable), then resume"
            + (f" from the checkpoint of step {whole[-1]}, which is intact." if whole else "."),
        ) from error
    return place


def newest_whole(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest checkpoint whose every file has its hash, and a note on each newer one that was skipped.

    Returns:
        (None, ()) if there is no checkpoint at all.

    Raises:
        RunError: if there are checkpoints but all are damaged; starting over in silence would throw the run away.
    """
    notes: list[str] = []
    for step in reversed(steps(folder)):
        damage = damage_of(place_of(folder, step))
        if damage is None:
            return place_of(folder, step), tuple(notes)
        notes.append(f"checkpoint of step {step} skipped: {damage}")
    if notes:
        raise RunError(
            f"No checkpoint in {folder} is whole: {'; '.join(notes)}.",
            hint="restore one from a copy, or move the run away and start a new one.",
        )
    return None, ()


def damage_of(place: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is whole."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        if manifest["format"] != _FORMAT:
            return f"its format is {manifest['format']}, this Laurel reads {_FORMAT}"
        for name, expected in sorted(manifest["files"].items()):
            file = place / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if _sha256(file) != expected["sha256"]:
                return f"{name} does not have its hash"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def step_of(place: Path) -> int:
    """The step of a checkpoint's directory."""
    return int(place.name.removeprefix(_PREFIX))


def load(place: Path, notes: tuple[str, ...] = ()) -> Checkpoint:
    """Read a checkpoint that was found whole."""
    from safetensors.torch import load_file

    state = json.loads((place / STATE).read_text())
    groups = sorted(place.glob("*.safetensors"))
    return Checkpoint(step_of(place), place, {file.stem: load_file(file) for file in groups}, state, notes)


def hashes(place: Path) -> dict[str, str]:
    """The SHA-256 of every file, by name: equal tensors and states have equal ones."""
    files = json.loads((place / MANIFEST).read_text())["files"]
    return {name: entry["sha256"] for name, entry in sorted(files.items())}


def tidy(folder: Path, *, newest_whole: int | None) -> None:
    """Clean up after a crash: for the writer alone, once it knows where to go on.

    Half-written and half-removed directories go. Damaged checkpoints after the newest whole one are renamed to
    `step-....damaged`, so that they neither count nor stand in the way.
    """
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(f".{_PREFIX}"):
            shutil.rmtree(entry, ignore_errors=True)
    for step in steps(folder):
        if newest_whole is not None and step > newest_whole:
            _aside(place_of(folder, step))


def _write_files(
    hidden: Path, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: str
) -> dict[str, Any]:
    from safetensors.torch import save_file

    for group, members in tensors.items():
        if not _GROUP.fullmatch(group):
            raise RunError(f"A group of tensors is called {group!r}.", hint="use lower-case letters, digits and _.")
        ready = {name: tensor.detach().cpu().contiguous() for name, tensor in members.items()}
        try:
            save_file(ready, hidden / f"{group}.safetensors")
        except RuntimeError as error:
            raise RunError(f"Group {group} cannot be saved: {error}", hint="store tied tensors once.") from error
        phase("in_checkpoint_write", step)
    (hidden / STATE).write_text(state)
    manifest: dict[str, Any] = {"format": _FORMAT, "step": step, "files": {}}
    for file in sorted(hidden.iterdir()):
        flush(file)
        manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    (hidden / MANIFEST).write_text(json.dumps(manifest, indent=1))
    flush(hidden / MANIFEST)
    return manifest


def _make_way(place: Path, manifest: dict[str, Any]) -> bool:
    """Clear the place of an equal step: True if the new checkpoint has to go there, False if it is there already."""
    if damage_of(place) is not None:
        _aside(place)
        return True
    if hashes(place) != {name: entry["sha256"] for name, entry in sorted(manifest["files"].items())}:
        raise RunError(f"{place} exists with other content.", hint="a step has one checkpoint; resume the run first.")
    return False


def _aside(place: Path) -> None:
    aside = place.with_suffix(".damaged")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)


def _remove_older(folder: Path, keep: int) -> None:
    for step in steps(folder)[:-keep]:
        # Renamed first: a crash in the middle of the removal must not look like damage.
        doomed = folder / f".{place_of(folder, step).name}.removed"
        shutil.rmtree(doomed, ignore_errors=True)
        place_of(folder, step).rename(doomed)
        shutil.rmtree(doomed)


def _state_text(state: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(state, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise RunError(f"The state of a checkpoint is no JSON: {error}.", hint="put tensors into groups.") from error
    if json.loads(text) != state:
        raise RunError(
            "The state of a checkpoint would come back different from JSON.",
            hint="use lists instead of tuples, and strings as keys.",
        )
    return text


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Have the disk keep a file's content, or a folder's names, before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error
