"""What the commands share: words, a model, complaints, and how they end."""

from __future__ import annotations

import errno
import logging as standard_logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from flamingo_app.errors import FlamingoError, PromptError, TrainingError
from flamingo_app.presets import check_model_name
from flamingo_app.prompt import refuse_special_tokens

if TYPE_CHECKING:
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor


INTERRUPTED = 130
"""What a shell expects of a command that was stopped from the keyboard."""


def guarded(name: str, command: Callable[[], int]) -> int:
    """The exit status of a command; what its user can see to is one line on standard error, and 2.

    A training run that could not go on is 1.
    """
    try:
        return command()
    except FlamingoError as error:
        complain(error, name)
        return 1 if isinstance(error, TrainingError) else 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            full = FlamingoError(expected="room to write", got="a full disk", remedy="free some, or choose another")
            complain(full, name)
        elif error.filename is not None:
            got = f"{str(error.filename)!r}: {error.strerror}"
            use = FlamingoError(expected="a file that can be used", got=got, remedy="see to it, or choose another")
            complain(use, name)
        else:
            raise
        return 2


def complain(error: FlamingoError | str, name: str = "flamingo") -> None:
    """Say what went wrong: one line on standard error."""
    print(f"{name}: {error}", file=sys.stderr)


def check_words(flag: str, text: str) -> None:
    """Raise `PromptError` where a flag was given no words, or the spelling of a special token."""
    if not text.strip():
        raise PromptError(expected=f"words after {flag}", got=repr(text), remedy="write some")
    refuse_special_tokens(text)


def load_model(name: str) -> tuple[FlamingoForConditionalGeneration, FlamingoProcessor]:
    """The model on the accelerator where there is one, without the libraries' progress bars and advice."""
    check_model_name(name)
    import torch
    from transformers.utils import logging

    from flamingo_app.model.checkpoint import load

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    standard_logging.getLogger("huggingface_hub").setLevel(standard_logging.ERROR)  # it tells of every attempt
    return load(name, device="cuda" if torch.cuda.is_available() else "cpu")
