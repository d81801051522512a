from datetime import timedelta

from gradkeel_store.records import Records
from making import PEPPER, Clock

SHA = "ab" * 32


def test_seconds_of_training_are_summed(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, pepper=PEPPER, clock=clock)
    project, other = records.default_project(), records.project_named("other")
    assert records.training_seconds(project) == 0.0

    def run(owner: str, seconds: float) -> None:
        dataset = records.create_dataset(owner, "t.csv", SHA, 10)
        claimed = records.claim_dataset(dataset.id, "test")
        assert claimed is not None
        assert records.finish_dataset(dataset.id, claimed.fence, SHA, {"columns": []}, 1, [])
        job = records.create_job(owner, dataset.id, {}, {})
        held = records.claim_job(job.id, "test")
        assert held is not None
        clock.forward(seconds=seconds)
        assert records.finish_job(job.id, held.fence, "failed", error={"code": "internal", "message": "x"})

    run(project, 90.5)
    clock.forward(hours=25)
    run(project, 20.25)
    run(other, 1000.0)
    day = clock() - timedelta(days=1)
    assert (
        abs(records.training_seconds(project) - 110.75) < 0.01
    )  # julianday resolves a tenth of a millisecond
    assert abs(records.training_seconds(project, since=day) - 20.25) < 0.01
    assert records.dataset_counts(project) == {"ingesting": 0, "ready": 2, "rejected": 0}
    assert records.model_count(project) == 0
