"""flamingo import: a model that others trained, as one of ours."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path


def run(options: Namespace) -> int:
    """Convert the checkpoint and print the report."""
    from transformers.utils import logging

    from flamingo_app.importers import Options, import_checkpoint

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    chosen = Options(
        lm=options.lm,
        vision=options.vision,
        tokenizer=options.tokenizer,
        attend=options.attend,
        patches=options.patches,
        image_size=options.image_size,
    )
    report = import_checkpoint(Path(options.source), Path(options.out), chosen)
    print("\n".join(report.lines()))
    return 0
