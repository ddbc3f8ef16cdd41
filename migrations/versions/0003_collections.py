"""Collections that stay current: their files, versions of their documents, and sets of vectors.

Revision: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# SQLite numbers rows by itself only in an INTEGER key.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COLLECTION = (
    ("shape", sa.Text),
    ("active_set", sa.BigInteger),
    ("version", sa.BigInteger),
    ("next_version", sa.BigInteger),
    ("next_file", sa.BigInteger),
    ("next_document", sa.BigInteger),
    ("next_chunk", sa.BigInteger),
)
_DOCUMENT = (
    ("place", sa.LargeBinary),
    ("digest", sa.LargeBinary),
    ("first_chunk", sa.BigInteger),
    ("chunks", sa.BigInteger),
    ("from_version", sa.BigInteger),
    ("until_version", sa.BigInteger),
)
_CHUNK = (("tokens", sa.BigInteger), ("problem", sa.Text))


def upgrade() -> None:
    for table, columns in (("collections", _COLLECTION), ("documents", _DOCUMENT), ("chunks", _CHUNK)):
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind(), nullable=True))
    # Only those of a named collection have a place: a job's own documents pay nothing for this index.
    op.create_index(
        "documents_by_place",
        "documents",
        ["collection_id", "place"],
        sqlite_where=sa.text("place IS NOT NULL"),
        postgresql_where=sa.text("place IS NOT NULL"),
    )
    op.create_table(
        "collection_files",
        sa.Column("collection_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("file_no", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=True),
        sa.Column("ctime_ns", sa.BigInteger(), nullable=True),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("from_version", sa.BigInteger(), nullable=False),
        sa.Column("until_version", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "file_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "embedding_sets",
        sa.Column("id", _ID, nullable=False),
        sa.Column("collection_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("target", sa.BigInteger(), nullable=True),
        sa.Column("keep_until", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("activated_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("embedding_sets_by_name", "embedding_sets", ["collection_id", "name"], unique=True)
    op.create_table(
        "set_vectors",
        sa.Column("set_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("chunk_no", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("set_id", "chunk_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "collection_versions",
        sa.Column("collection_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("version_no", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("set_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=True),
        sa.Column("sources", sa.LargeBinary(), nullable=False),
        sa.Column("first_file", sa.BigInteger(), nullable=False),
        sa.Column("first_document", sa.BigInteger(), nullable=False),
        sa.Column("first_chunk", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "version_no"),
    )


def downgrade() -> None:
    for table in ("collection_versions", "set_vectors", "embedding_sets", "collection_files"):
        op.drop_table(table)
    op.drop_index("documents_by_place", "documents")
    for table, columns in (("chunks", _CHUNK), ("documents", _DOCUMENT), ("collections", _COLLECTION)):
        for name, _ in reversed(columns):
            op.drop_column(table, name)
