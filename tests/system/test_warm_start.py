"""Going on from an earlier model, by REST, SDK and command line, against a real stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradkeel import Client, ConflictError, GradkeelError, Job, NotFoundError, UnprocessableError

QUICK: dict[str, Any] = {"preset": "custom", "budget": {"epochs": 2, "batch_size": 64}}
SMALL = QUICK | {"model": {"kind": "mlp", "widths": [8, 4]}}
LONG = {"epochs": 100_000, "patience": 0, "max_seconds": 200, "batch_size": 16}


@pytest.fixture(scope="module")
def client(stack: Any) -> Any:
    profile = json.loads((stack.data / "profile.json").read_text())
    with Client(profile["url"], profile["api_key"]) as made:
        yield made


def table(seed: int, rows: int = 120) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    zone = draw.choice(["a", "b", "c"], rows)
    x = draw.normal(size=rows)
    return pd.DataFrame({"x": x, "zone": zone, "y": 3 * x + (zone == "a") + 0.1 * draw.normal(size=rows)})


@pytest.fixture(scope="module")
def first(client: Client) -> Job:
    return client.jobs.create(client.datasets.upload(table(0)), target="y", config=SMALL).wait()


def test_a_training_goes_on_from_a_job(client: Client, first: Job) -> None:
    other = table(1)
    other.loc[::10, "zone"] = "new"
    head = {"freeze": ["layers.0", "layers.1"]}
    job = client.jobs.create(client.datasets.upload(other), warm_start=first, config=QUICK, model=head)
    assert job.config["model"] == first.config["model"] | head
    assert job.config["model_id"] == first.model_id and job.config["target"] == "y"
    job.wait()
    told = job.report()["provenance"]["warm_start"]
    digest = client.models.get(str(first.model_id)).digests["bundle"]
    assert told == {"model_id": first.model_id, "digest": digest, "preparation": "kept"}
    assert len(job.model().predict(other.drop(columns="y"))) == 120
    again = job.retry().wait()  # the completed config says all that is needed
    assert again.metrics == job.metrics


def test_from_the_command_line(stack: Any, first: Job, tmp_path: Path) -> None:
    file, config = tmp_path / "more.csv", tmp_path / "config.json"
    table(2).to_csv(file, index=False)
    config.write_text(json.dumps(QUICK))
    for source in (first.id, str(first.model_id)):
        done = stack.gradkeel("train", file, "--warm-start", source, "--config", config, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["job"]["config"]["model_id"] == first.model_id
    done = stack.gradkeel("train", file, "--warm-start", "mdl_nothing", "--config", config, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["status"] == 404


def test_what_does_not_go_together_is_refused(client: Client, first: Job) -> None:
    data = client.datasets.upload(table(3))
    lacking = client.datasets.upload(table(3).rename(columns={"x": "z"}))
    for given, changes, pointer, word in (
        (data, {"model": {"widths": [9]}}, "/model/widths", "[8, 4]"),
        (data, {"prepare": {"numeric": {"kind": "robust"}}}, "/prepare/numeric", "leave numeric out"),
        (data, {"split": {"folds": 3}}, "/split/folds", "leave folds or model_id out"),
        (lacking, {}, "/model_id", "'x'"),
    ):
        with pytest.raises(UnprocessableError) as raised:
            client.jobs.create(given, warm_start=first, config=QUICK | changes)
        (fault,) = raised.value.problem["errors"]
        assert fault["pointer"] == pointer and word in fault["detail"]
    with pytest.raises(NotFoundError, match="no model"):
        client.jobs.create(data, target="y", model_id="mdl_" + "0" * 22)
    with pytest.raises(NotFoundError, match="takes the id of a model"):
        client.jobs.create(data, target="y", model_id=first.id)
    with pytest.raises(UnprocessableError):
        client.jobs.create(data, target="y", model_id=7)


def test_a_model_that_is_gone_on_from_stays_until_then(client: Client, first: Job) -> None:
    data = client.datasets.upload(table(4))
    source = client.jobs.create(data, target="y", config=SMALL).wait().model()
    job = client.jobs.create(data, warm_start=source, config=QUICK | {"budget": LONG})
    with pytest.raises(ConflictError, match="go on from the model"):
        client.models.delete(source.id)
    job.cancel().wait(check=False)
    client.models.delete(source.id)
    with pytest.raises(NotFoundError, match="no model"):
        job.retry()
    with pytest.raises(NotFoundError, match="no model"):
        client.jobs.create(data, warm_start=source, config=QUICK)


def test_a_batch_may_go_on_from_a_model(client: Client, first: Job) -> None:
    data = client.datasets.upload(table(5))
    lines = [
        {"custom_id": str(seed), "config": QUICK | {"seed": seed, "model_id": first.model_id}}
        for seed in (0, 1)
    ]
    batch = client.batches.submit(lines, dataset=data).wait()
    assert [result.state for result in batch.results()] == ["succeeded"] * 2


def test_a_job_without_a_model_is_nothing_to_go_on_from(client: Client) -> None:
    data = client.datasets.upload(table(6))
    job = client.jobs.create(data, target="y", config=SMALL | {"budget": LONG})
    with pytest.raises(GradkeelError, match="has no model"):
        client.jobs.create(data, warm_start=job)
    job.cancel().wait(check=False)
