"""Whether a set of vectors is activated when it is complete, and how long the former one is kept then.

Revision: 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("embedding_sets", sa.Column("keep_s", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("embedding_sets", "keep_s")
