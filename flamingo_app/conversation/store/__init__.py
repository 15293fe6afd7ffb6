"""Where conversations live: the only place that knows SQL.

tables      what is kept
database    an engine by URL, brought up to date by numbered migrations
pictures    by sha256 under an fsspec URL
records     a conversation as it is kept
store       conversations of their owners
portable    a conversation as a file, and back
"""

from flamingo_app.conversation.store.records import Saved, SavedTurn, Status, Summary
from flamingo_app.conversation.store.store import Store

__all__ = ["Saved", "SavedTurn", "Status", "Store", "Summary"]
