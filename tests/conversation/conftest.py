"""What all chats of these tests need."""

import pytest

from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny


@pytest.fixture(scope="module")
def processor() -> FlamingoProcessor:
    return FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())
