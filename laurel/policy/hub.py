"""Whether the hub can be asked for a model, found out once and fast, before anything is read."""

from __future__ import annotations

from pathlib import Path

from laurel.errors import PolicyError

ANSWER_SECONDS = 10.0
"""How long the hub may take to say that it knows a model."""


def only_cached(name: str, revision: str | None) -> bool:
    """Whether a model has to come from the cache on this machine, because the hub does not answer.

    Without this question every file of the model would wait for the hub, retried for half a minute.

    Raises:
        PolicyError: if the hub does not answer and the cache does not have the model.
    """
    if Path(name).exists():
        return False
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return False  # it answered, or it is no name to ask about: loading says what is wrong
    except Exception as error:  # of whichever HTTP library the hub's client uses
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            return True
        raise PolicyError(
            f"{name} is no directory here, the hub {constants.ENDPOINT} cannot be reached ({error}), and the cache "
            f"{constants.HF_HUB_CACHE} does not have it.",
            hint="check the connection (or proxy) and try again, give the directory of a model, or fetch it elsewhere "
            f"(hf download {name}) and copy the cache.",
        ) from error
    return False
