"""Which item a paid reply brought nothing for, so that whoever asked for the item can count what it cost.

Revision: 0006. Expands only: workers of the version before leave it open.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("usage", sa.Column("item_no", sa.BigInteger(), nullable=True))
    wasted = sa.text("item_no IS NOT NULL")
    op.create_index("usage_wasted", "usage", ["job_id", "item_no"], sqlite_where=wasted, postgresql_where=wasted)


def downgrade() -> None:
    op.drop_index("usage_wasted", "usage")
    op.drop_column("usage", "item_no")
