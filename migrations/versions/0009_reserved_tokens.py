"""Tokens are set aside before they are sent for, as dollars are.

Revision: 0009. Expands only: workers of the version before reserve dollars, and no tokens.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ESTIMATED = """
UPDATE shards SET unknown_tokens = (
    SELECT COALESCE(SUM(usage.prompt_tokens + usage.completion_tokens), 0) FROM usage
     WHERE usage.job_id = shards.job_id AND usage.shard_no = shards.shard_no AND usage.outcome = 'unknown')
 WHERE unknown_attempts > 0
"""
# Of a job with a budget of tokens alone no account of dollars was kept either.
_ACCOUNT = """
UPDATE jobs SET {account} = (SELECT COALESCE(SUM({counters}), 0) FROM shards WHERE shards.job_id = jobs.id)
 WHERE budget_usd IS NOT NULL OR budget_tokens IS NOT NULL
"""


def upgrade() -> None:
    for table, name in (("shards", "unknown_tokens"), ("shards", "reserved_tokens"), ("jobs", "set_aside_tokens")):
        op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_ESTIMATED)
    op.execute(_ACCOUNT.format(account="set_aside", counters="usd + unknown_usd + reserved"))
    tokens = "prompt_tokens + completion_tokens + unknown_tokens"
    op.execute(_ACCOUNT.format(account="set_aside_tokens", counters=tokens))


def downgrade() -> None:
    op.drop_column("jobs", "set_aside_tokens")
    op.drop_column("shards", "reserved_tokens")
    op.drop_column("shards", "unknown_tokens")
