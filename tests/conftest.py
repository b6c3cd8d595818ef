"""One thread for arithmetic, unless asked otherwise: some tests fork, and OpenMP's threads do not survive that."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
