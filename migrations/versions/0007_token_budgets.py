"""How many tokens a job may use.

Revision: 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("budget_tokens", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "budget_tokens")
