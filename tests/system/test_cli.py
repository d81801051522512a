"""The command line against a real stack: documents, exit statuses, files, words."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gradkeel.contract.patch import merge_patch

KEYS = {"job", "model", "metrics", "verdict", "findings", "report_path", "seconds"}
SMALL = {"kind": "mlp", "widths": [16]}
QUICK = {"preset": "custom", "model": SMALL, "budget": {"epochs": 4, "batch_size": 64}}
DIVERGES = QUICK | {
    "model": {"kind": "mlp", "widths": [64, 64]},
    "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
    "loss": {"kind": "mse"},
    "clips": [],
    "optimizer": {"kind": "sgd", "lr": 0.01},
}
LONG = QUICK | {"budget": {"epochs": 100_000, "patience": 0, "max_seconds": 200}}


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    return config_file(tmp_path, QUICK)


def config_file(folder: Path, config: dict[str, Any], name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(config))
    return path


def train(stack: Any, file: Path, *options: str | Path) -> tuple[int, dict[str, Any], str]:
    """Status, document and words of `gradkeel train --json`."""
    done = stack.gradkeel("train", file, "--target", "progression", "--json", *options)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def trained(
    stack: Any, diabetes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """The document of one trained model, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    code, document, said = train(
        stack, diabetes, "--config", config_file(folder, QUICK), "--out", folder / "out"
    )
    assert code == 0, said
    return document, folder / "out"


def test_the_document_of_a_training(trained: tuple[dict[str, Any], Path]) -> None:
    document, out = trained
    assert set(document) == KEYS
    assert document["job"]["state"] == "succeeded"
    assert document["job"]["model_id"] == document["model"]["id"]
    assert set(document["metrics"]) >= {"validation", "test", "baselines"}
    assert set(document["metrics"]["test"]) >= {"rmse", "mae", "r2"}
    assert set(document["metrics"]["baselines"]) >= {"constant", "ridge"}
    report = json.loads((out / "report.json").read_text())
    assert document["verdict"] == report["verdict"]
    assert document["findings"] == report["findings"]
    assert document["report_path"] == str(out / "report.html")
    assert document["seconds"] > 0


def test_the_files_of_a_training(trained: tuple[dict[str, Any], Path]) -> None:
    out = trained[1]
    names = {path.name for path in out.iterdir()}
    assert names == {"model.gradkeel", "report.json", "report.html", "predictions.csv"}
    with (out / "predictions.csv").open() as file:
        assert {"row", "actual", "prediction"} <= set(next(csv.DictReader(file)))


def test_people_read_verdict_findings_and_metrics(stack: Any, diabetes: Path, quick: Path) -> None:
    done = stack.gradkeel("train", diabetes, "--target", "progression", "--config", quick)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Verdict: (healthy|strained|unstable)$", done.stdout, re.M)
    assert re.search(r"^metrics +rmse", done.stdout, re.M)
    assert re.search(r"^ridge, test +\d", done.stdout, re.M)
    assert re.search(r"^column +rmse when shuffled +±$", done.stdout, re.M)
    assert "gradient norm" in done.stderr


def test_flags_stand_over_the_config_file_only_when_given(stack: Any, diabetes: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "preset: custom\ntarget: bmi\noptimizer: {kind: adamw, lr: 1e-3}\nbudget: {epochs: 2}\n"
    )
    done = stack.gradkeel("train", diabetes, "--config", config, "--json")
    job = json.loads(done.stdout)["job"]
    assert (job["config"]["target"], job["config"]["preset"]) == ("bmi", "custom")
    assert job["config"]["optimizer"]["lr"] == 0.001
    _, document, _ = train(stack, diabetes, "--config", config, "--preset", "fast")
    assert document["job"]["config"]["target"] == "progression"
    assert document["job"]["config"]["preset"] == "fast"


def test_folds_are_scored_and_shown(stack: Any, diabetes: Path, quick: Path, tmp_path: Path) -> None:
    done = stack.gradkeel(
        "train", diabetes, "--target", "progression", "--config", quick, "--folds", "3", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "rows held out",
        "fold 1",
        "fold 3",
        "model, mean",
        "model, standard deviation",
        "ridge, mean",
    ):
        assert line in done.stdout
    found = json.loads((tmp_path / "report.json").read_text())["fit"]["cross_validation"]
    assert [fold["fold"] for fold in found["per_fold"]] == [1, 2, 3]
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["row"]) for row in rows) == list(range(442))
    assert {row["fold"] for row in rows} == {"", "1", "2", "3"}
    assert "Cross-validation" in (tmp_path / "report.html").read_text()


def test_a_diverged_job_is_a_document_and_its_patch_mends_it(
    stack: Any, diabetes: Path, tmp_path: Path
) -> None:
    code, document, _ = train(stack, diabetes, "--config", config_file(tmp_path, DIVERGES))
    assert code == 1
    assert set(document) == KEYS
    assert (document["job"]["state"], document["job"]["error"]["code"]) == ("failed", "diverged")
    assert document["verdict"] == "diverged"
    assert document["report_path"] is None
    assert any(finding["remedy"]["patch"] for finding in document["findings"])
    done = stack.gradkeel("train", "--apply", document["job"]["id"], "--json")
    mended = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert mended["job"]["state"] == "succeeded"
    assert mended["job"]["dataset_id"] == document["job"]["dataset_id"]
    assert "Applying the patch for" in done.stderr and " → " in done.stderr  # what it changes, beforehand
    assert mended["job"]["config"]["budget"]["epochs"] == 4


def test_rejected_data_is_a_document_without_a_job(stack: Any, tmp_path: Path) -> None:
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,progression\n1,2\n3,4,5\n6,7\n")
    code, document, said = train(stack, ragged)
    assert code == 1
    assert set(document) == KEYS | {"error"}
    assert document["job"] is None
    assert document["findings"] == []
    assert any(error.get("line") == 3 for error in document["error"]["errors"]), document["error"]
    assert "line 3" in said


def test_a_refused_config_is_a_document_with_pointers(stack: Any, diabetes: Path, tmp_path: Path) -> None:
    bad = config_file(tmp_path, QUICK | {"optimizer": {"kind": "adamw", "lr": -1}})
    code, document, said = train(stack, diabetes, "--config", bad)
    assert code == 1
    assert document["job"] is None
    assert [error["pointer"] for error in document["error"]["errors"]] == ["/optimizer/lr"]
    assert "/optimizer/lr" in said


def test_a_preflight_is_a_sentence_a_table_and_a_patch_that_trains(
    stack: Any, diabetes: Path, quick: Path, tmp_path: Path
) -> None:
    done = stack.gradkeel("preflight", diabetes, "--target", "progression", "--config", quick, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document.keys() == {"job", "preflight", "recommended", "summary", "seconds"}
    assert document["job"]["kind"] == "preflight" and document["job"]["model_id"] is None
    assert document["summary"] in done.stderr
    assert "use lr" in done.stderr and "as configured (inputs and target) *" in done.stderr
    chosen = document["recommended"]
    patched = config_file(tmp_path, merge_patch(QUICK, chosen["patch"]), "patched.json")
    code, trained, said = train(stack, diabetes, "--config", patched)
    assert code == 0, said
    assert trained["job"]["config"]["optimizer"]["lr"] == chosen["lr"]
    told = stack.gradkeel("report", document["job"]["id"])
    assert document["summary"] in told.stdout and "Verdict" not in told.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "no-such-file.csv", "--target", "y"],
        ["train", "--nonsense"],
        ["nonsense"],
        ["predict", "neither", "nor.csv"],
        ["keys", "create", "--scope", "everything"],
    ],
)
def test_wrong_usage_is_2(stack: Any, arguments: list[str], tmp_path: Path) -> None:
    done = stack.gradkeel(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""


def test_a_target_is_asked_for_before_anything_is_sent(stack: Any, diabetes: Path) -> None:
    done = stack.gradkeel("train", diabetes)
    assert done.returncode == 2
    assert "--target" in done.stderr


def test_no_service_is_3(stack: Any, diabetes: Path) -> None:
    done = stack.gradkeel("train", diabetes, "--target", "bmi", "--url", "http://127.0.0.1:9", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["job"] is None
    assert "127.0.0.1:9" in done.stderr


def test_a_wrong_key_is_1(stack: Any) -> None:
    done = stack.gradkeel("jobs", "list", "--api-key", "key_x.y")
    assert done.returncode == 1
    assert "key" in done.stderr
    assert "request id: req_" in done.stderr


def test_predictions_of_service_and_bundle_agree(
    stack: Any, diabetes: Path, trained: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    document, out = trained
    remote = stack.gradkeel("predict", document["model"]["id"], diabetes)
    assert remote.returncode == 0, remote.stderr
    local = stack.gradkeel("predict", out / "model.gradkeel", diabetes, "-o", tmp_path / "p.csv")
    assert local.returncode == 0, local.stderr
    columns = [
        [float(row["prediction"]) for row in csv.DictReader(io.StringIO(text))]
        for text in (remote.stdout, (tmp_path / "p.csv").read_text())
    ]
    assert len(columns[0]) == 442
    assert columns[0] == pytest.approx(columns[1], rel=1e-9)
    assert "warning" not in remote.stderr + local.stderr
    mistyped = tmp_path / "mistyped.csv"
    mistyped.write_text(diabetes.read_text().replace("bmi", "bmii", 1))
    for model in (document["model"]["id"], out / "model.gradkeel"):
        warned = stack.gradkeel("predict", model, mistyped)
        assert warned.stderr.count("'bmii' was not in the training table") == 1
        assert "did you mean 'bmi'?" in warned.stderr


def test_a_job_is_found_again(stack: Any, trained: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    job = trained[0]["job"]
    listed = json.loads(stack.gradkeel("jobs", "list", "--state", "succeeded", "--json").stdout)
    assert job["id"] in [found["id"] for found in listed]
    assert json.loads(stack.gradkeel("jobs", "show", job["id"], "--json").stdout)["id"] == job["id"]
    assert stack.gradkeel("jobs", "logs", job["id"]).returncode == 0
    watched = json.loads(stack.gradkeel("jobs", "watch", job["id"], "--json").stdout)
    assert {**watched, "report_path": None} == {**trained[0], "report_path": None}
    page = tmp_path / "r.html"
    assert stack.gradkeel("report", job["id"], "--html", page).returncode == 0
    assert "<html" in page.read_text()
    words, picture = tmp_path / "r.md", tmp_path / "r.png"
    assert stack.gradkeel("report", job["id"], "--markdown", words, "--png", picture).returncode == 0
    assert words.read_text().startswith("# ") and picture.read_bytes().startswith(b"\x89PNG")


def test_detach_then_cancel(stack: Any, diabetes: Path, tmp_path: Path) -> None:
    _, document, _ = train(stack, diabetes, "--config", config_file(tmp_path, LONG), "--detach")
    job_id = document["job"]["id"]
    assert document["model"] is None
    assert stack.gradkeel("jobs", "cancel", job_id).returncode == 0
    watched = stack.gradkeel("jobs", "watch", job_id, "--json")
    assert watched.returncode == 1
    assert json.loads(watched.stdout)["job"]["state"] == "cancelled"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_watch_it(
    stack: Any, diabetes: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "gradkeel", "train", str(diabetes), "--target", "progression"]
    command += ["--config", str(config_file(tmp_path, LONG))]
    process = subprocess.Popen(command, env=dict(stack.env), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert next(line for line in process.stderr if "epoch" in line)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait() == 130
    found = re.search(r"gradkeel jobs watch (job_\w+)", said)
    assert found, said
    job = json.loads(stack.gradkeel("jobs", "show", found[1], "--json").stdout)
    assert job["state"] == "running"
    assert job["cancel_requested"] is False
    assert stack.gradkeel("jobs", "cancel", found[1]).returncode == 0


def test_data_sets(stack: Any, diabetes: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(f"{diabetes.read_text()}59,2,32.1,101,157,93.2,38,4,4.8598,87,151\n")
    made = json.loads(stack.gradkeel("datasets", "upload", own, "--json").stdout)
    assert (made["state"], made["rows"]) == ("ready", 443)
    again = json.loads(stack.gradkeel("datasets", "upload", own, "--json").stdout)
    assert again["id"] == made["id"]
    shown = stack.gradkeel("datasets", "show", made["id"])
    assert "progression" in shown.stdout
    preview = json.loads(stack.gradkeel("datasets", "preview", made["id"], "--rows", "3", "--json").stdout)
    assert len(preview["rows"]) == 3
    assert stack.gradkeel("datasets", "preview", made["id"]).returncode == 0
    profile = stack.gradkeel("datasets", "profile", made["id"])
    assert "bmi" in profile.stdout
    assert stack.gradkeel("datasets", "delete", made["id"]).returncode == 0
    assert stack.gradkeel("datasets", "show", made["id"]).returncode == 1


def test_models(stack: Any, trained: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    document, out = trained
    model_id = document["model"]["id"]
    listed = json.loads(stack.gradkeel("models", "list", "--limit", "100", "--json").stdout)
    assert model_id in [found["id"] for found in listed]
    assert "bmi" in stack.gradkeel("models", "show", model_id).stdout
    assert stack.gradkeel("models", "download", model_id, "-o", tmp_path).returncode == 0
    assert (tmp_path / "model.gradkeel").read_bytes() == (out / "model.gradkeel").read_bytes()
    assert stack.gradkeel("models", "download", model_id, "-o", tmp_path, "--format", "onnx").returncode == 0


def test_keys(stack: Any) -> None:
    secret = stack.gradkeel("keys", "create", "--scope", "read", "--name", "reader").stdout.strip()
    assert re.fullmatch(r"key_\w+\.[\w-]{43}", secret)
    assert stack.gradkeel("jobs", "list", "--api-key", secret).returncode == 0
    assert stack.gradkeel("keys", "list", "--api-key", secret).returncode == 1
    listed = stack.gradkeel("keys", "list", "--json").stdout
    assert secret not in listed
    (key,) = [key for key in json.loads(listed) if key["id"] == secret.partition(".")[0]]
    assert key["scopes"] == ["read"]
    rotated = stack.gradkeel("keys", "rotate", key["id"], "--overlap", "1")
    assert "ends in 1 hours" in rotated.stderr
    renewed = rotated.stdout.strip()
    for either in (secret, renewed):
        assert stack.gradkeel("jobs", "list", "--api-key", either).returncode == 0
    assert stack.gradkeel("keys", "revoke", key["id"]).returncode == 0
    assert stack.gradkeel("jobs", "list", "--api-key", secret).returncode == 1
    table = stack.gradkeel("keys", "list").stdout
    assert "last used" in table
    assert renewed.partition(".")[0] in table


def test_a_key_of_some_days(stack: Any) -> None:
    made = json.loads(stack.gradkeel("keys", "create", "--scope", "read", "--days", "90", "--json").stdout)
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert abs(lifetime - timedelta(days=90)) < timedelta(minutes=1)
    both = stack.gradkeel(
        "keys", "create", "--scope", "read", "--days", "1", "--expires", "2099-01-01T00:00:00Z"
    )
    assert both.returncode == 2


def test_the_doctor_finds_all_in_order(stack: Any) -> None:
    done = stack.gradkeel("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stderr
    assert {checks[name]["status"] for name in ("service", "key", "profile", "broker", "Python")} == {"ok"}


def test_the_doctor_says_what_to_do(stack: Any) -> None:
    done = stack.gradkeel("doctor", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Cannot reach http://127.0.0.1:9" in done.stdout
    wrong = stack.gradkeel("doctor", "--api-key", "key_x.y", "--json")
    checks = {check["name"]: check for check in json.loads(wrong.stdout)}
    assert checks["key"]["status"] == "fault"
    assert "GRADKEEL_API_KEY" in checks["key"]["advice"]


def test_a_broken_cell_is_named_before_anything_is_trained(stack: Any, tmp_path: Path) -> None:
    rows = [f"{i / 2},{i % 7 * 1.5},{i}" for i in range(60)]
    rows[40] = "n.a.m2,3,40"
    (tmp_path / "homes.csv").write_text("\n".join(["size,age,price", *rows]) + "\n")
    done = stack.gradkeel("train", tmp_path / "homes.csv", "--target", "price", "--preset", "fast")
    assert done.returncode == 0
    said, _, _ = done.stderr.partition("prepare")
    assert "look at column 'size'" in said
    assert "'n.a.m2' in row 40, line 42" in said


def test_a_job_mends_itself_and_shows_it(stack: Any, diabetes: Path, tmp_path: Path) -> None:
    health = {"repair": 2, "repair_allow": ["target", "loss"]}
    config = config_file(tmp_path, DIVERGES | {"health": health})
    code, document, said = train(stack, diabetes, "--config", config, "--out", tmp_path / "out")
    assert code == 0, said
    assert (document["job"]["state"], document["verdict"]) == ("succeeded", "healthy")
    assert "Now repair 1 (feature_scale)" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (entry,) = report["repair"]
    assert (entry["status"], entry["from"]) == ("applied", "start")
    assert entry["after"]["rmse"] == pytest.approx(document["metrics"]["validation"]["rmse"])
    resolved = document["job"]["config"]  # what was trained in the end, with reasons
    assert resolved["prepare"]["numeric"] == {"kind": "standard"}
    assert "repair 1" in resolved["chosen"]["/prepare/numeric"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Repairs tried" in page and "Re-run with this change from its start" in page
