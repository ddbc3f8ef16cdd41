"""Tokens are set aside before they are sent for, as dollars are.

Revision: 0009. Expands only: workers of the version before reserve dollars, and no tokens.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# Before the first ALTER: it reads all bills, and nobody has to wait for that. What workers of the version before still
# add is counted by `budgets.set_right`.
_ESTIMATES = """
CREATE TEMPORARY TABLE estimated_tokens AS
SELECT job_id, shard_no, SUM(prompt_tokens + completion_tokens) AS tokens
  FROM usage WHERE outcome = 'unknown' GROUP BY job_id, shard_no
"""
_ESTIMATED = """
UPDATE shards SET unknown_tokens = estimated.tokens FROM estimated_tokens AS estimated
 WHERE shards.job_id = estimated.job_id AND shards.shard_no = estimated.shard_no
"""
# Of a job with a budget of tokens alone no account of dollars was kept either.
_ACCOUNTS = """
UPDATE jobs SET set_aside = sums.usd, set_aside_tokens = sums.tokens FROM (
    SELECT job_id, SUM(usd + unknown_usd + reserved) AS usd,
           SUM(prompt_tokens + completion_tokens + unknown_tokens) AS tokens
      FROM shards WHERE job_id IN (SELECT id FROM jobs WHERE budget_usd IS NOT NULL OR budget_tokens IS NOT NULL)
     GROUP BY job_id) AS sums
 WHERE jobs.id = sums.job_id
"""


def upgrade() -> None:
    op.execute(_ESTIMATES)
    for table, name in (("shards", "unknown_tokens"), ("shards", "reserved_tokens"), ("jobs", "set_aside_tokens")):
        op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_ESTIMATED)
    op.execute(_ACCOUNTS)
    op.execute("DROP TABLE estimated_tokens")


def downgrade() -> None:
    op.drop_column("jobs", "set_aside_tokens")
    op.drop_column("shards", "reserved_tokens")
    op.drop_column("shards", "unknown_tokens")
