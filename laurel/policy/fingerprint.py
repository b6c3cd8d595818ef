"""What an adapter stands on: one number for the frozen weights and the configuration of the model below it.

An adapter is kept without the model that it adapts. On other weights it means nothing, although it fits wherever the
shapes are equal; so a run keeps the fingerprint, and whoever builds the policy of the run again compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from laurel.errors import PolicyError

_PIECE = 1 << 20
_NOT_THE_MODEL = ("_name_or_path", "transformers_version")
"""Keys of config.json that say who wrote it, not what is computed."""


def fingerprint(name: str, revision: str | None = None) -> str:
    """SHA-256 over the configuration and the stored weights of a model, read once from its files.

    Over the tensors in the order of their names, each with name, type and shape: sharding the same weights otherwise
    changes nothing, and nor does the device or the type that they are computed in. Where there are no safetensors, it
    is over the bytes of the weight files.

    Args:
        name: a hub name or a directory whose model was loaded before.
        revision: of a hub name.

    Raises:
        PolicyError: if no file with weights is there.
    """
    digest = hashlib.sha256()
    found = _file(name, "config.json", revision)
    config = {} if found is None else json.loads(Path(found).read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in _NOT_THE_MODEL}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    files = _weight_files(name, revision)
    if all(file.endswith(".safetensors") for file in files):
        for piece in _tensors(files):
            digest.update(piece)
    else:
        for file in files:
            with open(file, "rb") as binary:
                while piece := binary.read(_PIECE):
                    digest.update(piece)
    return digest.hexdigest()


def check_frozen(recorded: object, description: Mapping[str, Any], owner: str) -> None:
    """Refuse a policy whose adapter stands on another model than the recorded one did.

    Args:
        recorded: the description of a policy that a run keeps; without a fingerprint nothing can be compared.
        description: that of the policy at hand.
        owner: of the record, for the message.

    Raises:
        PolicyError: naming the directory that changed.
    """
    if not isinstance(recorded, Mapping) or "frozen" not in recorded or "frozen" not in description:
        return
    before, now = recorded["frozen"], description["frozen"]
    name = recorded.get("name_or_directory")
    if before == now or name != description.get("name_or_directory"):
        return
    raise PolicyError(
        f"{owner} trained an adapter on the model in {name}, which is another one now: the SHA-256 of its "
        f"configuration and weights was {before[:12]}..., and is {now[:12]}....",
        hint=f"put the model that the run was started with back into {name} (for a hub name: give its revision), or "
        "start a new run; on other weights this adapter means nothing.",
    )


def _weight_files(name: str, revision: str | None) -> list[str]:
    """The files that transformers reads the weights from, in its order of preference."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        if found := _file(name, whole, revision):
            return [found]
        if index := _file(name, f"{whole}.index.json", revision):
            shards = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
            return [found for shard in shards if (found := _file(name, shard, revision))]
    raise PolicyError(
        f"{name}: no file with weights was found to take a fingerprint of.",
        hint="save the model as model.safetensors: model.save_pretrained(directory).",
    )


def _tensors(files: list[str]) -> Iterator[bytes | memoryview]:
    """Name, type, shape and bytes of every tensor, one tensor in memory at a time."""
    shards: list[Any] = [safe_open(file, framework="pt") for file in files]
    places = {key: shard for shard in shards for key in shard.keys()}  # noqa: SIM118  # a shard is no mapping
    for key in sorted(places):
        tensor = places[key].get_tensor(key)
        yield f"{key}/{tensor.dtype}/{list(tensor.shape)}\n".encode()
        yield tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _file(name: str, file: str, revision: str | None) -> str | None:
    """Where a file of a model that was loaded before lies on this machine."""
    if Path(name).is_dir():
        path = Path(name) / file
        return str(path) if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file, revision=revision)
    return found if isinstance(found, str) else None
