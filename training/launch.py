"""What a launcher has set up, and where figures go."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from flamingo_app.errors import ConfigError
from training import sharding
from training.settings import Settings


def accelerator(settings: Settings) -> Accelerator:
    """The processes and devices of this run, alone or under `accelerate launch`.

    Raises:
        ConfigError: its tracker is not installed, or the launcher's config is for something that we do not resume.
    """
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise ConfigError(
                expected="a launcher that leaves steps and checkpoints to us: a config of training/configs",
                got=f"one for {name}",
                remedy="take fsdp2.yaml where the frozen weights are too large for one device, else ddp.yaml",
            )
    # To accelerate such a run is one of whole models: see `training.sharding`.
    os.environ.pop(sharding.FSDP, None)
    if settings.track != "none" and find_spec(settings.track) is None:  # accelerate would track nothing, silently
        raise ConfigError(
            expected=f"{settings.track} for --track {settings.track}",
            got="none",
            remedy=f"install it: .venv/bin/pip install {settings.track}, or say --track none",
        )
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    try:
        launched = Accelerator(
            # Several processes without accelerators are joined by gloo only when told that they are on CPUs; untold,
            # each would train alone.
            cpu=int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available(),
            mixed_precision="no" if precision == "fp32" else precision,
            log_with=None if settings.track == "none" else settings.track,
            project_dir=settings.output,
            # The frozen tower's statistics never move: nothing to broadcast.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            step_scheduler_with_optimizer=False,
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(
            expected="a --precision that this machine has, and --track that works here",
            got=f"{precision} and {settings.track}: {error}",
            remedy="say --precision fp32, or --track none",
        ) from None
    return launched


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Keep other runs out of a run's folder for as long as this process works in it; a killed one leaves it free.

    Raises:
        ConfigError: another is in it.
    """
    path = folder / ".lock"
    with path.open("a") as file:
        try:
            # A process's own, not handed down to those that read ahead for it, which outlive a killed one by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ConfigError(
                expected="a folder after --output that no other run is writing",
                got=f"{folder}, which one is",
                remedy="wait for it, stop it, or choose another",
            ) from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            path.unlink()


def begin_tracking(launched: Accelerator, settings: Settings, start: int) -> None:
    """Open the tracker; figures of steps that are repeated replace the earlier ones where it can do so."""
    config: dict[str, Any] = {
        name: value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in settings.as_json().items()
    }
    more = {"purge_step": start + 1} if start else {}
    project = "tensorboard" if settings.track == "tensorboard" else Path(settings.output).name
    launched.init_trackers(project, config=config, init_kwargs={"tensorboard": more})
