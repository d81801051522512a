"""Configs from files, patches applied to jobs, and what the screen makes of numbers and events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradkeel import Event, Report
from gradkeel.cli.config_files import read_config
from gradkeel.cli.live import Readout, Remarks
from gradkeel.cli.outcome import clipping_line, decision_lines, metric_rows
from gradkeel.cli.predict import safe_cell
from gradkeel.cli.screen import cell_text
from gradkeel.contract.patch import merge_patch
from gradkeel.sansio.configs import overlaid, patched_config

WANTED = {"optimizer": {"kind": "sgd", "lr": 0.001}, "labels": {"switch": "off"}, "budget": {"epochs": 3}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", json.dumps(WANTED)),
        ("c.yaml", "optimizer: {kind: sgd, lr: 1e-3}\nlabels: {switch: off}\nbudget: {epochs: 3}\n"),
        ("c.toml", '[optimizer]\nkind = "sgd"\nlr = 1e-3\n[labels]\nswitch = "off"\n[budget]\nepochs = 3\n'),
    ],
)
def test_the_same_config_in_three_languages(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    config = read_config(path)
    assert config == WANTED
    assert isinstance(config["budget"]["epochs"], int)


@pytest.mark.parametrize(
    ("name", "text"), [("c.yaml", "labels: {run: 2024-01-31}"), ("c.toml", "[labels]\nrun = 2024-01-31\n")]
)
def test_a_date_is_the_text_that_stands_there(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert json.dumps(read_config(path)) == '{"labels": {"run": "2024-01-31"}}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"seed": NaN}'),
        ("c.json", '{"seed": 1, "seed": 2}'),
        ("c.json", "[1]"),
        ("c.yaml", "seed: 1\nseed: 2\n"),
        ("c.yaml", "seed: [1\n"),
        ("c.yaml", "!!python/object/apply:os.getcwd []"),
        ("c.toml", "seed = "),
        ("c.ini", "seed = 1"),
    ],
)
def test_files_that_are_no_config_are_named(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=name):
        read_config(path)


SUBMITTED: dict[str, Any] = {"target": "y", "loss": {"kind": "mse"}, "optimizer": {"kind": "sgd", "lr": 1.0}}
RESOLVED: dict[str, Any] = {
    "target": "y",
    "loss": {"kind": "mse"},
    "optimizer": {"kind": "sgd", "lr": 1.0, "momentum": 0.0},
    "clips": [],
}
PATCH = {
    "optimizer": {"kind": "adamw", "lr": 0.001},
    "clips": [{"kind": "norm", "max_norm": 1.0}],
    "loss": None,
}


def test_a_patch_is_merged_into_what_was_submitted() -> None:
    job = {"submitted": SUBMITTED, "config": RESOLVED}
    assert patched_config(job, PATCH) == merge_patch(SUBMITTED, PATCH)


def test_without_it_a_block_of_another_kind_replaces_the_resolved_one() -> None:
    assert patched_config({"config": RESOLVED}, PATCH) == {
        "target": "y",
        "optimizer": {"kind": "adamw", "lr": 0.001},
        "clips": [{"kind": "norm", "max_norm": 1.0}],
    }
    same = patched_config({"config": RESOLVED}, {"optimizer": {"lr": 0.1}})
    assert same["optimizer"] == {"kind": "sgd", "lr": 0.1, "momentum": 0.0}


def test_only_what_is_given_stands_over_a_config() -> None:
    assert overlaid({"preset": "fast", "target": "y"}, {"preset": None, "target": "z"}) == {
        "preset": "fast",
        "target": "z",
    }


def test_metrics_stand_in_lines_beside_the_baselines_of_the_test_part() -> None:
    flat = {"test": {"rmse": 1.0}, "validation": {"rmse": 2.0}, "baselines": {"ridge": {"rmse": 3.0}}}
    by_part = flat | {"baselines": {"ridge": {"test": {"rmse": 3.0}, "validation": {"rmse": 4.0}}}}
    wanted = [
        ("model, test", {"rmse": 1.0}),
        ("model, validation", {"rmse": 2.0}),
        ("ridge, test", {"rmse": 3.0}),
    ]
    assert metric_rows(flat) == metric_rows(by_part) == wanted
    assert metric_rows({}) == []


def test_a_readout_folds_events_and_counts_epochs_from_one() -> None:
    readout = Readout()
    for name, data in (
        ("state", {"state": "running"}),
        ("progress", {"phase": "train", "epoch": 1, "epochs": 4, "fraction": 0.25, "eta_seconds": 3.0}),
        ("epoch", {"epoch": 1, "train_loss": 0.5, "validation_loss": None, "global_norm": 2.0, "lr": 0.01}),
        ("finding", {"rule": "outliers", "loss": 9.0}),
    ):
        readout = readout.after(Event(1, name, data))
    assert readout.words() == "epoch 2/4  loss 0.5  gradient norm 2  lr 0.01"
    assert (readout.phase, readout.fraction, readout.eta) == ("train", 0.25, 3.0)


def test_clipping_is_told_only_where_it_happened() -> None:
    clip = {"kind": "norm", "fired_steps": 12, "fraction": 0.1, "role": "safety_net"}
    assert clipping_line(clip) == "The norm clip fired at 12 steps (10.0 %): a safety net."
    assert clipping_line(clip | {"fired_steps": 1}).startswith("The norm clip fired at 1 step (")
    assert clipping_line(clip | {"fired_steps": 0}) is None


def test_a_guard_that_steps_in_all_the_time_is_told_a_few_times() -> None:
    remarks = Remarks()
    data = {"action": "skip_step", "reason": "the loss is not finite"}
    lines = [remarks.on(Event(step, "intervention", {**data, "step": step})) for step in range(9)]
    assert lines[0] == "step 0: skipped, the loss is not finite"
    assert [line is not None for line in lines] == [True] * 3 + [False] * 6
    stop = {"step": 9, "action": "stop", "reason": "5 steps in a row"}
    assert remarks.on(Event(9, "intervention", stop)) == "step 9: training stopped, 5 steps in a row"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        (0.123456, "0.1235"),
        (12345.678, "12,345.7"),
        (3.4e18, "3.4e+18"),
        (2.0, "2"),
        (float("inf"), "inf"),
        ("2026-11-20T18:54:37.426676Z", "2026-11-20 18:54:37Z"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_cells_as_people_read_them(cell: Any, text: str) -> None:
    assert cell_text(cell) == text


def test_text_that_a_spreadsheet_would_run_is_marked() -> None:
    assert [safe_cell(cell) for cell in ("=cmd()", "@x", -1.5, "plain")] == ["'=cmd()", "'@x", -1.5, "plain"]


@pytest.mark.parametrize(
    ("severities", "chosen"),
    [(["info", "warning", "critical"], 1), (["info", "info"], 0), (["critical", "info"], 0), ([], None)],
)
def test_the_patch_to_apply_is_that_of_a_warning_before_that_of_a_note(
    severities: list[str], chosen: int | None
) -> None:
    findings = [
        {"rule": str(i), "severity": severity, "remedy": {"patch": {"seed": i}}}
        for i, severity in enumerate(severities)
    ]
    remedy = Report({"findings": findings}).remedy
    assert (remedy and remedy.rule) == (None if chosen is None else str(chosen))


def test_a_report_tells_importance_and_learning_curve_and_lacks_them_quietly() -> None:
    rows = [{"column": "size", "mean": 2.0, "sd": 0.1, "gradient": 0.4}]
    curve = [{"epoch": 0, "step": 9, "train_loss": 1.0, "validation_loss": 1.2}]
    report = Report({"fit": {"importance": {"metric": "rmse", "columns": rows}, "learning_curve": curve}})
    assert report.importance == rows
    assert report.learning_curve == curve
    for nothing in ({"fit": None}, {"fit": {}}, {"fit": {"importance": None}}):
        assert Report(nothing).importance == [] == Report(nothing).learning_curve


def test_what_the_validation_part_decided_is_told_in_a_line_each() -> None:
    losses = {"log_loss_before": 0.5, "log_loss_after": 0.4}
    calibration = {"temperature": 1.5, "applied": True, **losses}
    choices = [{"kind": "half", "threshold": 0.5}, {"kind": "f1", "threshold": 0.25}]
    fit = {"calibration": calibration, "threshold": {"applied": "f1", "choices": choices}}
    assert decision_lines(fit) == [
        "Temperature 1.5 (applied): held-out validation log loss 0.5 without, 0.4 with it.",
        "Thresholds by the validation part: half 0.5, f1 0.25; in use: f1.",
    ]
    assert decision_lines({"calibration": {"temperature": None}, "threshold": None}) == []
