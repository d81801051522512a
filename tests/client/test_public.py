"""What the package shows: names, errors, weight, types."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import gradkeel
from gradkeel import errors
from gradkeel.client import AsyncClient, Client
from gradkeel.resources import batches, datasets, jobs, keys, models

HEAVY = {
    "numpy",
    "torch",
    "flask",
    "celery",
    "sqlalchemy",
    "pandas",
    "pyarrow",
    "onnxruntime",
    "duckdb",
    "redis",
}


@pytest.mark.parametrize("module", ["gradkeel", "gradkeel.client", "gradkeel.cli", "gradkeel.contract"])
def test_importing_the_client_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())


def test_the_contract_alone_needs_no_http_client() -> None:
    code = "import sys, gradkeel.contract.states; print('httpx2' in sys.modules, 'rich' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_every_public_name_is_there() -> None:
    assert sorted(gradkeel.__all__) == gradkeel.__all__
    for name in gradkeel.__all__:
        assert getattr(gradkeel, name).__name__ == name
    with pytest.raises(AttributeError):
        gradkeel.nothing  # noqa: B018


def test_every_error_is_public_and_drawn_in_the_tree() -> None:
    found = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    for name, kind in found.items():
        assert issubclass(kind, errors.GradkeelError)
        assert name in gradkeel.__all__
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (413, "APIStatusError"),
        (422, "UnprocessableError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
        (507, "InternalServerError"),
    ],
)
def test_status_to_error(status: int, name: str) -> None:
    assert errors.error_class(status).__name__ == name


PAIRS: list[tuple[Any, Any]] = [
    (Client, AsyncClient),
    (datasets.Datasets, datasets.AsyncDatasets),
    (datasets.Dataset, datasets.AsyncDataset),
    (jobs.Jobs, jobs.AsyncJobs),
    (jobs.Job, jobs.AsyncJob),
    (batches.Batches, batches.AsyncBatches),
    (batches.Batch, batches.AsyncBatch),
    (models.Models, models.AsyncModels),
    (models.Model, models.AsyncModel),
    (keys.Keys, keys.AsyncKeys),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_the_asyncio_face_has_the_same_methods_and_parameters(pair: tuple[Any, Any]) -> None:
    blocking, awaited = ({n: m for n, m in vars(kind).items() if inspect.isfunction(m)} for kind in pair)
    public = {name for name in blocking if not name.startswith("_")}
    assert public <= set(awaited)
    for name in public:
        assert list(inspect.signature(blocking[name]).parameters) == list(
            inspect.signature(awaited[name]).parameters
        )


def test_documents_are_read_only() -> None:
    job = jobs.JobData({"id": "job_1", "state": "running", "progress": {"epoch": 3, "fraction": 0.25}})
    assert job.progress is not None
    assert (job.progress.epoch, job.progress.fraction) == (3, 0.25)
    with pytest.raises(AttributeError):
        job.state = "succeeded"  # type: ignore[assignment]
    assert repr(job) == "<JobData job_1 running>"
    assert job == jobs.JobData(dict(job.raw))
