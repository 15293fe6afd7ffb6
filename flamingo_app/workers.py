"""Processes that decode or draw ahead, and what becomes of them when the one they work for is gone."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from threading import Thread


def end_with_parent(worker: int) -> None:
    """End this process as soon as its parent has ended, however that came; a `worker_init_fn` of a `DataLoader`.

    The loader's own watch compares with the parent that it finds when it begins, so a worker whose parent was killed
    before that waits for ever, and holds open whatever files it was born with.

    Args:
        worker: its number, as the loader gives it; not used.
    """
    Thread(target=_outlive_none, daemon=True).start()


def _outlive_none() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
