"""What became of jobs that came by the queue; their consumer gives signs of life beside the workers.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "submissions",
        sa.Column("project", sa.String(length=40), nullable=False),
        sa.Column("submission_id", sa.String(length=200), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("config_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("warnings", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("project", "submission_id", name="pk_submissions"),
    )
    op.create_index("ix_submissions_project_created_at_id", "submissions", ["project", "created_at", "id"])
    op.add_column("workers", sa.Column("role", sa.String(length=16), server_default="worker", nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "role")
    op.drop_index("ix_submissions_project_created_at_id", table_name="submissions")
    op.drop_table("submissions")
