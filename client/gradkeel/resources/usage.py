"""``/v1/usage`` (scope admin)."""

from __future__ import annotations

from gradkeel import display
from gradkeel.documents import Document, Field, mapping, whole
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Flow
from gradkeel.sansio.retry import RetryPolicy

PATH = "/usage"


class Usage(Document):
    """What a project uses, beside what it may use.

    ``quotas``: name → ``{"used", "limit"}`` of the project; ``limits``: name → limit of one request, data
    set, job or key. A limit that is None does not limit. ``jobs`` and ``datasets`` count by state.
    """

    project = Field(mapping)
    jobs = Field(mapping)
    datasets = Field(mapping)
    models = Field(whole)
    training_seconds = Field(float)
    quotas = Field(mapping)
    limits = Field(mapping)

    def _html(self) -> str:
        quotas = [(name, quota["used"], quota["limit"]) for name, quota in self.quotas.items()]
        listed = display.table(["quota", "used", "limit"], quotas)
        return display.card(f"Usage of {self.project.get('name')}", (), listed)


def usage_flow(policy: RetryPolicy) -> Flow[Usage]:
    return Usage((yield from flows.document_of(flows.get(PATH), policy)))
