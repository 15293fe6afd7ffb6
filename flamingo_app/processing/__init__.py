"""From pictures and words to what the model takes.

image_processor     pictures to pixel values
special_tokens      our two tokens in a tokenizer, and in a text that is trusted
chat_messages       Hugging Face's chat messages to turns and pictures
processor           all of it: prompts and their pictures to the model's inputs
"""

from flamingo_app.processing.image_processor import FlamingoImageProcessor
from flamingo_app.processing.processor import FlamingoProcessor
from flamingo_app.processing.special_tokens import add_special_tokens

__all__ = ["FlamingoImageProcessor", "FlamingoProcessor", "add_special_tokens"]
