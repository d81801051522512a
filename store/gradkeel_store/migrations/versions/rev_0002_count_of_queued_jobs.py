"""An index to count a project's queued jobs by, which every submission does.

Revision 0002.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_project_state", "jobs", ["project", "state"])


def downgrade() -> None:
    op.drop_index("ix_jobs_project_state", table_name="jobs")
