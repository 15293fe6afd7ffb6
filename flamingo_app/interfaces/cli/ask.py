"""flamingo ask: one answer about pictures."""

from __future__ import annotations

from argparse import Namespace

from flamingo_app.errors import PictureError
from flamingo_app.fewshot.finding import find_pictures
from flamingo_app.images import Source, open_picture
from flamingo_app.interfaces.cli.common import check_words, complain, load_model


def run(options: Namespace) -> int:
    """Open all pictures, then load the model and print its answer; one picture that fails is one too many."""
    check_words("--question", options.question)
    pictures: list[Source] = []
    failed = False
    for source in find_pictures(options.paths).values():
        try:
            pictures.append(open_picture(source))
        except PictureError as error:
            failed = True
            complain(error)
    if failed:
        return 2
    model, processor = load_model(options.model)
    from flamingo_app.fewshot.asking import ask

    print(ask(model, processor, pictures, options.question))
    return 0
