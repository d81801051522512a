"""Gradkeel: train models on tables over REST, on an even keel, with a gradient-health report.

``from gradkeel import Client`` is the SDK; ``gradkeel.local`` predicts without the service;
``gradkeel.contract`` is the vocabulary that all sides share. Names are loaded when first used, since
service and worker import the contract alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client
    from gradkeel.display import ProgressLine
    from gradkeel.errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        DatasetRejected,
        DigestMismatch,
        GradkeelError,
        InternalServerError,
        JobCancelled,
        JobFailed,
        MissingExtra,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        UnprocessableError,
        WaitTimeout,
    )
    from gradkeel.reports import Finding, Report
    from gradkeel.resources.batches import AsyncBatch, Batch, BatchResult
    from gradkeel.resources.datasets import AsyncDataset, Dataset
    from gradkeel.resources.jobs import AsyncJob, Job
    from gradkeel.resources.keys import Key
    from gradkeel.resources.models import AsyncModel, Model, Predictions
    from gradkeel.resources.submissions import Submission
    from gradkeel.resources.usage import Usage
    from gradkeel.sansio.flows import Event
    from gradkeel.scores import CrossValidation

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncBatch",
    "AsyncClient",
    "AsyncDataset",
    "AsyncJob",
    "AsyncModel",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchResult",
    "Client",
    "ConflictError",
    "CrossValidation",
    "Dataset",
    "DatasetRejected",
    "DigestMismatch",
    "Event",
    "Finding",
    "GradkeelError",
    "InternalServerError",
    "Job",
    "JobCancelled",
    "JobFailed",
    "Key",
    "MissingExtra",
    "Model",
    "NotFoundError",
    "PermissionDeniedError",
    "Predictions",
    "ProgressLine",
    "RateLimitError",
    "Report",
    "Submission",
    "UnprocessableError",
    "Usage",
    "WaitTimeout",
]

_HOMES = {
    "gradkeel.client": ("AsyncClient", "Client"),
    "gradkeel.display": ("ProgressLine",),
    "gradkeel.reports": ("Finding", "Report"),
    "gradkeel.resources.batches": ("AsyncBatch", "Batch", "BatchResult"),
    "gradkeel.resources.datasets": ("AsyncDataset", "Dataset"),
    "gradkeel.resources.jobs": ("AsyncJob", "Job"),
    "gradkeel.resources.keys": ("Key",),
    "gradkeel.resources.models": ("AsyncModel", "Model", "Predictions"),
    "gradkeel.resources.submissions": ("Submission",),
    "gradkeel.resources.usage": ("Usage",),
    "gradkeel.scores": ("CrossValidation",),
    "gradkeel.sansio.flows": ("Event",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gradkeel' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF.get(name, "gradkeel.errors")), name)


def __dir__() -> list[str]:
    return __all__
