"""A chat with the model.

messages    what each side said: words and pictures in their order
window      which turns the model reads
prefixes    caches of what it has read, kept for whoever goes on from there
recollection  what has left the window, written into the memory
saved       a conversation in a folder
session     the chat spelled for the model, and the answer as a stream; a conversation that goes on
"""

from flamingo_app.conversation.messages import Example, Message, Part, Picture
from flamingo_app.conversation.prefixes import Prefixes
from flamingo_app.conversation.recollection import Memories, Recollection, recollections
from flamingo_app.conversation.session import Budget, Conversation, Reply, Settings, reply

__all__ = [
    "Budget",
    "Conversation",
    "Example",
    "Memories",
    "Message",
    "Part",
    "Picture",
    "Prefixes",
    "Recollection",
    "Reply",
    "Settings",
    "recollections",
    "reply",
]
