"""A chat with the model.

messages    what each side said: words and pictures in their order
session     the chat spelled for the model, as much of it as fits, and the answer as a stream
"""

from flamingo_app.conversation.messages import Message, Part
from flamingo_app.conversation.session import Reply, reply

__all__ = ["Message", "Part", "Reply", "reply"]
