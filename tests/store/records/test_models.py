import pytest

from gradkeel_store.errors import InUse, NotFound
from gradkeel_store.records import Records
from making import MODEL, PARQUET, SHA, ended_job, running_job


def test_the_document_of_a_model(records: Records, project: str) -> None:
    job = ended_job(records, project)
    model = records.get_model(project, str(job.model_id))
    document = model.to_json()
    assert document.pop("created_at").endswith("Z")
    assert document == MODEL | {"id": model.id, "job_id": job.id}
    assert [row.id for row in records.list_models(project).rows] == [model.id]


def test_its_id_may_be_chosen(records: Records, project: str) -> None:
    job = running_job(records, project)
    assert records.finish_job(job.id, job.fence, "failed", model=MODEL | {"id": "mdl_1"})
    assert records.get_job(project, job.id).model_id == "mdl_1"


def test_deleting_it_leaves_its_job(records: Records, project: str) -> None:
    job = ended_job(records, project)
    assert records.delete_model(project, str(job.model_id)).job_id == job.id
    assert records.get_job(project, job.id).model_id is None
    with pytest.raises(NotFound):
        records.get_model(project, str(job.model_id))


def test_another_projects_is_absent(records: Records, project: str) -> None:
    model_id = str(ended_job(records, project).model_id)
    other = records.project_named("other")
    for attempt in (records.get_model, records.delete_model):
        with pytest.raises(NotFound):
            attempt(other, model_id)
    assert records.get_model(project, model_id).id == model_id


def test_what_records_name_is_known(records: Records, project: str) -> None:
    job = running_job(records, project)
    assert records.finish_job(job.id, job.fence, "succeeded", model=MODEL, report_digest="1" * 64)
    bundle = MODEL["digests"]["bundle"].removeprefix("sha256:")
    named = {SHA, PARQUET, "1" * 64, bundle}
    assert records.referenced(named | {"0" * 64}) == named
    assert records.referenced(set()) == set()
    many = {f"{number:064x}" for number in range(40_000)}
    assert records.referenced(named | many) == named


def test_a_model_that_a_job_is_to_go_on_from_is_held(records: Records, project: str) -> None:
    job = ended_job(records, project)
    config = {"target": "y", "model_id": job.model_id}
    waiting = records.create_job(project, job.dataset_id, config, config)
    with pytest.raises(InUse, match="go on from the model"):
        records.delete_model(project, str(job.model_id))
    records.request_cancel(project, waiting.id)
    records.delete_model(project, str(job.model_id))
    with pytest.raises(NotFound, match="there is no model"):
        records.create_job(project, job.dataset_id, config, config)
    assert records.queued_jobs(project) == 0
