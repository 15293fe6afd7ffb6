"""The set that a conversation's examples are chosen from, picture by picture, and how many of it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("pool", sa.String(200), nullable=False, server_default=""))
    op.add_column("conversations", sa.Column("num_similar", sa.Integer, nullable=False, server_default="0"))
