"""How often the worker died that held a shard, and the items that are suspected of it.

Revision: 0004. Expands only: workers of the version before count no deaths, and go on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("shards", sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "suspects",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shard_no", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "item_no"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("suspects")
    op.drop_column("shards", "deaths")
