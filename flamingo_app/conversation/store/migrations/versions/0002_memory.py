"""Whether a conversation's memory is read, and how many of its first turns are forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("remembers", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("conversations", sa.Column("forgotten", sa.Integer, nullable=False, server_default="0"))
