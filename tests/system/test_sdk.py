"""The SDK, blocking and asyncio, against a real stack."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel import (
    AsyncClient,
    AsyncDataset,
    AsyncJob,
    AuthenticationError,
    Client,
    ConflictError,
    CrossValidation,
    DatasetRejected,
    GradkeelError,
    Job,
    JobCancelled,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableError,
    WaitTimeout,
)
from gradkeel.scores import scores_of

SMALL: dict[str, Any] = {
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16]},
    "budget": {"epochs": 4, "batch_size": 64},
}
LONG = SMALL | {"budget": {"epochs": 100_000, "patience": 0, "max_seconds": 200}}


@pytest.fixture(scope="module")
def access(stack: Any) -> tuple[str, str]:
    """Address and key, as the profile of the stack holds them."""
    profile = json.loads((stack.data / "profile.json").read_text())
    return profile["url"], profile["api_key"]


@pytest.fixture
def client(access: tuple[str, str]) -> Any:
    with Client(*access) as made:
        yield made


@pytest.fixture(scope="module")
def trained(access: tuple[str, str], diabetes: Path) -> Any:
    """A job that succeeded, and the events that its wait showed."""
    seen: list[Any] = []
    with Client(*access) as made:
        data = made.datasets.upload(diabetes)
        job = made.jobs.create(data, target="progression", config=SMALL, labels={"suite": "sdk"})
        yield job.wait(on_event=seen.append), seen


def test_a_training_without_its_stabilizers(stack: Any, access: tuple[str, str], diabetes: Path) -> None:
    seen: list[Any] = []
    model = {"kind": "mlp", "widths": [64, 64]}
    sgd = {"optimizer": {"kind": "sgd", "lr": 0.01}, "model": model}
    asked = SMALL | sgd | {"health": {"counterfactual": True, "curvature": True}}
    with Client(*access) as client:
        data = client.datasets.upload(diabetes)
        job = client.jobs.create(data, target="progression", config=asked).wait(on_event=seen.append)
        report, page = job.report(), job.report_html()
        assert job.report_markdown().startswith("# ") and job.report_png().startswith(b"\x89PNG")
    found = report.counterfactual
    assert found is not None
    arms = {arm["without"]: arm for arm in found["arms"]}
    assert {arm["status"] for arm in arms.values()} == {"ran"}
    assert arms["all"]["diverged_at"] in (2, 3) and arms["nothing"]["diverged_at"] is None
    assert arms["nothing"]["metrics"] == job.metrics["validation"]  # four epochs: the last is the best
    told = [one.data["counterfactual"] for one in seen if one.name == "log" and "counterfactual" in one.data]
    assert [each["without"] for each in told if each["status"] == "ran"] == list(arms)
    shown = " ".join(stack.gradkeel("report", job.id).stdout.split())
    bends = report.curvature
    assert bends is not None and bends["lambda_max"]["converged"] and bends["start"]["lr_over_limit"] < 1
    assert report["cost"]["studies"]["curvature"] > 0
    for words in (found["summary"], found["init_digest"], found["batch_order_digest"], bends["summary"]):
        assert words in shown and words in page
    assert found["summary"][:60] in report._repr_html_()


def own_table(rows: int = 80) -> pd.DataFrame:
    """A small table that no other test uploads."""
    source = np.random.default_rng(random.randrange(2**32))
    x = source.normal(size=rows)
    return pd.DataFrame({"x": x, "zone": np.where(x > 0, "B", "A"), "y": 2 * x + source.normal(size=rows)})


def test_a_data_set_tells_what_reading_noticed(access: tuple[str, str]) -> None:
    table = own_table().drop(columns="zone").astype(object)
    table.loc[7, "x"] = "n.a.?"
    text = table.to_csv(index=False).encode()
    with Client(*access) as client:
        data = client.datasets.upload(text)
        unread = client.datasets.get(data.id)
        (found,) = data.findings
        assert (found.code, found.column, found.row, found.line) == ("mixed_types", "x", 7, 9)
        assert "n.a.?" in data._repr_html_() and "look at this" in unread._repr_html_()
        stranger = client.datasets.get(data.id)
    assert data.findings == unread.findings == (found,)
    assert "look at this" not in stranger._repr_html_()

    async def ask() -> AsyncDataset:
        async with AsyncClient(*access) as client:
            other = await client.datasets.get(data.id)
            assert "look at this" not in other._repr_html_()
            assert await other.findings() == (found,)
            return other

    assert "n.a.?" in asyncio.run(ask())._repr_html_()


def test_events_of_a_wait(trained: tuple[Job, list[Any]]) -> None:
    job, seen = trained
    assert job.state == "succeeded"
    assert seen[-1].name == "end"
    assert {"state", "progress", "epoch"} <= {event.name for event in seen}
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))
    assert {event.data["job_id"] for event in seen} == {job.id}


def test_what_an_ended_job_holds(trained: tuple[Job, list[Any]], tmp_path: Path) -> None:
    job, _ = trained
    assert job.metrics is not None
    assert job.metrics["test"]["rmse"] > 0
    assert job.seconds is not None
    report = job.report()
    assert report.verdict == job.verdict
    assert len(report["series"]["loss"]) > 0
    assert "<html" in job.report_html()
    assert pd.read_csv(io.StringIO(job.predictions())).shape[0] > 50
    assert pq.read_table(job.series(tmp_path / "s.parquet")).num_rows > 0
    assert all(json.loads(line) for line in job.logs().splitlines())


def test_the_stream_can_be_taken_up_anywhere(trained: tuple[Job, list[Any]]) -> None:
    job, seen = trained
    again = [event.id for event in job.stream()]
    assert again[-1] == seen[-1].id
    middle = again[len(again) // 2]
    assert [event.id for event in job.stream(after=middle)] == [number for number in again if number > middle]


def test_models_predict_whatever_holds_rows(trained: tuple[Job, list[Any]], diabetes: Path) -> None:
    model = trained[0].model()
    frame = pd.read_csv(diabetes).drop(columns="progression")
    found = model.predict(frame)
    assert len(found) == 442
    assert found.probabilities is None
    assert model.predict(pa.Table.from_pandas(frame)).values == found.values
    assert model.predict(frame.to_dict("records")).values == pytest.approx(found.values)
    assert model.predict(frame.to_dict("list"))[3] == pytest.approx(found[3])
    assert model.predict_csv(diabetes).values == pytest.approx(found.values)
    assert model.predict(dict(frame.iloc[0]))[0] == pytest.approx(found[0])


def test_a_missing_column_follows_the_policy(trained: tuple[Job, list[Any]]) -> None:
    model = trained[0].model()
    assert model.predict([{"bmi": 30.0}], policy="impute").warnings
    with pytest.raises(UnprocessableError) as caught:
        model.predict([{"bmi": 30.0}], policy="strict")
    assert caught.value.problem is not None
    assert caught.value.problem["errors"][0]["column"]


def test_downloads_have_the_digest_that_the_model_names(
    trained: tuple[Job, list[Any]], tmp_path: Path
) -> None:
    model = trained[0].model()
    for form in ("bundle", "onnx", "safetensors"):
        path = model.download(tmp_path / form, format=form)
        assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == model.digests[form]


def test_neighbours_are_looked_up_and_the_choice_is_told(client: Client, diabetes: Path) -> None:
    data = client.datasets.upload(diabetes)
    block = {"kind": "means", "columns": ["bmi", "s5"], "k": [5]}
    job = client.jobs.create(data, target="progression", config=SMALL | {"prepare": {"neighbors": block}})
    report = job.wait().report()
    assert report["provenance"]["neighbors"]["columns"] == [["bmi", "s5"]]
    assert job.config["prepare"]["neighbors"]["columns"] == [["bmi", "s5"]]
    rows = pd.read_csv(diabetes).drop(columns="progression")
    assert len(job.model().predict(rows)) == 442
    with pytest.raises(UnprocessableError, match="no column 'weight'"):
        block = block | {"columns": ["weight"]}
        client.jobs.create(data, target="progression", config={"prepare": {"neighbors": block}})


def test_classes_come_with_probabilities(client: Client) -> None:
    data = client.datasets.upload(own_table())
    job = client.jobs.create(data, target="zone", config=SMALL).wait()
    model = job.model()
    assert model.task == "binary"
    assert model.classes == ("A", "B")
    found = model.predict({"x": [-2.0, 2.0], "y": [-4.0, 4.0]})
    assert set(found) <= {"A", "B"}
    assert found.probabilities is not None
    assert sum(found.probabilities[0].values()) == pytest.approx(1.0)


def test_the_same_bytes_are_one_data_set(client: Client) -> None:
    table = own_table()
    first = client.datasets.upload(table, name="once.parquet")
    told: list[tuple[int, int]] = []
    again = client.datasets.upload(table, progress=lambda *sent: told.append(sent))
    assert (again.id, told) == (first.id, [])
    assert first.rows == 80
    assert [column.name for column in first.columns] == ["x", "zone", "y"]
    assert first.preview(rows=2)["columns"][:2] == ["x", "zone"]
    assert {column["name"] for column in first.profile()["columns"]} == {"x", "zone", "y"}
    first.delete()
    with pytest.raises(NotFoundError):
        first.refresh()


def test_bad_data_says_where(client: Client) -> None:
    with pytest.raises(DatasetRejected, match="line 3") as caught:
        client.datasets.upload(f"a,b\n1,2\n3,4,{random.random()}\n".encode(), name="ragged.csv")
    assert caught.value.problem is not None
    assert caught.value.dataset.state == "rejected"


def test_a_bad_config_says_where(client: Client, trained: tuple[Job, list[Any]]) -> None:
    with pytest.raises(UnprocessableError) as caught:
        client.jobs.create(trained[0].dataset_id, target="progression", optimizer={"kind": "adamw", "lr": -1})
    assert caught.value.problem is not None
    assert caught.value.problem["errors"][0]["pointer"] == "/optimizer/lr"
    assert caught.value.request_id


def test_validate_resolves_without_submitting(client: Client, trained: tuple[Job, list[Any]]) -> None:
    resolved = client.jobs.validate(trained[0].dataset_id, target="progression", preset="fast")
    assert resolved["preset"] == "fast"
    assert resolved["optimizer"]["lr"] == 0.003


def test_a_lost_answer_makes_no_second_job(client: Client, trained: tuple[Job, list[Any]]) -> None:
    key = f"once-{random.random()}"
    jobs = [
        client.jobs.create(trained[0].dataset_id, target="bmi", config=SMALL, idempotency_key=key)
        for _ in range(2)
    ]
    assert jobs[0].id == jobs[1].id
    assert jobs[0].wait().state == "succeeded"


def test_cancelling(client: Client, trained: tuple[Job, list[Any]]) -> None:
    job = client.jobs.create(trained[0].dataset_id, target="progression", config=LONG)
    with pytest.raises(WaitTimeout):
        job.wait(timeout=0.2, on_event=print)
    with pytest.raises(ConflictError):
        job.report()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait()
    assert job.report().raw["schema_version"]


def test_a_diverged_job_fails_with_its_report(client: Client, trained: tuple[Job, list[Any]]) -> None:
    wild = SMALL | {
        "model": {"kind": "mlp", "widths": [64, 64]},
        "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
        "optimizer": {"kind": "sgd", "lr": 0.01},
        "loss": {"kind": "mse"},
        "clips": [],
    }
    job = client.jobs.create(trained[0].dataset_id, target="progression", config=wild)
    with pytest.raises(JobFailed, match="diverged"):
        job.wait()
    report = job.report()
    assert report.verdict == "diverged"
    assert report.remedy is not None
    assert report.remedy.patch


def test_cross_validation_by_asyncio_as_by_hand(
    client: Client, access: tuple[str, str], trained: tuple[Job, list[Any]]
) -> None:
    split = {"kind": "random", "seed": 2}
    quick = SMALL | {"target": "progression", "split": split}
    scores = client.cross_validate(trained[0].dataset_id, folds=2, repeats=2, config=quick)
    assert (scores.folds, scores.repeats, scores.failed) == (2, 2, [])
    rmse = scores.scores("rmse")
    assert scores.mean("rmse") == pytest.approx(sum(filter(None, rmse)) / 4)
    assert scores.job.config["split"] == split | {"validation": 0.15, "test": 0.15, "folds": 2, "repeats": 2}
    assert "CrossValidation of 4 folds: rmse" in repr(scores) and "standard deviation" in scores._repr_html_()

    async def again() -> CrossValidation[AsyncJob]:
        async with AsyncClient(*access) as other:
            return await other.cross_validate(
                trained[0].dataset_id, folds=2, repeats=2, target="progression", config=quick, split=split
            )

    found = asyncio.run(again())
    assert found.scores("rmse") == rmse  # same seed, same bits


def test_scores_of_a_job_without_folds(trained: tuple[Job, list[Any]]) -> None:
    with pytest.raises(GradkeelError, match="has no folds"):
        scores_of(trained[0].report(), trained[0])


def test_folds_that_cannot_be_are_refused(client: Client, trained: tuple[Job, list[Any]]) -> None:
    for split in ({"folds": 1}, {"folds": 101}, {"kind": "column", "folds": 3}):
        with pytest.raises(UnprocessableError) as raised:
            client.jobs.create(trained[0].dataset_id, target="progression", split=split)
        assert raised.value.problem["errors"][0]["pointer"] == "/split/folds"
    rare = own_table(80)
    with pytest.raises(UnprocessableError, match="80 rows; there cannot be more folds"):
        client.cross_validate(client.datasets.upload(rare), target="y", folds=81)
    rare["zone"] = ["A"] * 78 + ["B"] * 2
    with pytest.raises(JobFailed, match="the class 'B' has"):
        client.cross_validate(
            client.datasets.upload(rare), target="zone", folds=5, config=SMALL, split={"kind": "stratified"}
        )


def test_retry_is_a_new_job(client: Client, trained: tuple[Job, list[Any]]) -> None:
    again = client.jobs.get(trained[0].id).retry()
    assert again.id != trained[0].id
    assert again.retry_of == trained[0].id
    assert again.wait().metrics == trained[0].metrics


def test_lists_page_through_everything(client: Client, trained: tuple[Job, list[Any]]) -> None:
    for _ in range(3):
        client.jobs.create(trained[0].dataset_id, target="bmi", config=SMALL, labels={"page": "yes"})
    found = list(client.jobs.list(label="page=yes", limit=1))
    assert len(found) == 3
    assert len({job.id for job in found}) == 3
    for job in found:
        job.wait()
    assert trained[0].model_id in {model.id for model in client.models.list(limit=2)}
    assert trained[0].dataset_id in {data.id for data in client.datasets.list(limit=2)}


def test_keys_open_only_what_their_scopes_say(client: Client, access: tuple[str, str]) -> None:
    key = client.keys.create(["read"], name="reader")
    assert key.secret is not None
    with Client(access[0], key.secret) as reader:
        assert isinstance(list(reader.jobs.list(limit=1)), list)
        with pytest.raises(PermissionDeniedError):
            reader.jobs.create("ds_0", target="y")
        client.keys.revoke(key.id)
        with pytest.raises(AuthenticationError):
            list(reader.jobs.list())


def test_all_of_it_by_asyncio(access: tuple[str, str], tmp_path: Path) -> None:
    table = own_table()

    async def work() -> tuple[Any, ...]:
        seen: list[Any] = []
        async with AsyncClient(*access) as client:
            data = await client.datasets.upload(table)
            jobs = [await client.jobs.create(data, target="y", config=SMALL) for _ in range(2)]
            await asyncio.gather(jobs[0].wait(on_event=seen.append), jobs[1].wait())
            names = [event.name async for event in jobs[1].stream()]
            model = await jobs[0].model()
            found = await model.predict(table.drop(columns="y"))
            path = await model.download(tmp_path)
            report = await jobs[1].report()
            return seen, names, found, path, report

    seen, names, found, path, report = asyncio.run(work())
    assert seen[-1].name == names[-1] == "end"
    assert len(found) == 80
    assert path == tmp_path / "model.gradkeel"
    assert report.findings is not None
