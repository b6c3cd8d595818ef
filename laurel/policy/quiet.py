"""No bars and no advice from transformers while Laurel calls it: what matters comes back as a PolicyError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within it, transformers shows neither bars nor warnings; downloads, which take long, keep their bars."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    bars, downloads, verbosity = (
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
        logging.get_verbosity(),
    )
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
