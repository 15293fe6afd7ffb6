"""What is kept. The migrations make these tables; a test compares both."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, true

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(200), nullable=False, index=True),
    Column("title", Text, nullable=False),
    Column("words", Text, nullable=False),  # what a search looks through, casefolded
    Column("examples", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("remembers", Boolean, nullable=False, server_default=true()),
    Column("forgotten", Integer, nullable=False, server_default="0"),
    Column("pool", String(200), nullable=False, server_default=""),
    Column("num_similar", Integer, nullable=False, server_default="0"),
)

turns = Table(
    "turns",
    metadata,
    Column("conversation", ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("said", JSON, nullable=False),
    Column("answer", Text, nullable=True),
    Column("words", Text, nullable=False),
    Column("status", String(16), nullable=False),
)

example_sets = Table(
    "example_sets",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("examples", JSON, nullable=False),
)

# Which conversation shows which picture, so that nobody's pictures stay when the last of them is gone.
shown = Table(
    "shown",
    metadata,
    Column("conversation", ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True, index=True),
)
