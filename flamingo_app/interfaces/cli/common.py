"""What the commands share: words, a model, and complaints."""

from __future__ import annotations

import logging as standard_logging
import sys
from typing import TYPE_CHECKING

from flamingo_app.errors import FlamingoError, PromptError
from flamingo_app.presets import check_model_name
from flamingo_app.prompt import refuse_special_tokens

if TYPE_CHECKING:
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor


def complain(error: FlamingoError | str) -> None:
    """Say what went wrong: one line on standard error."""
    print(f"flamingo: {error}", file=sys.stderr)


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
