"""The reports that the page's tests draw, by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradkeel.contract.curvature import told
from gradkeel.contract.report import empty_report, preflight_report
from store.page import small_training

Json = dict[str, Any]

HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\">' onload='window.pwned=1 "
    "--><!-- \u202egnp.exe\u0000\ud800"
)
_PLACES = ("layer", "parameter", "step", "epoch", "row", "line", "column", "phase")


def finding(rule: str, severity: str, family: str = "gradient", **given: Any) -> Json:
    """A finding with every key; what is not given is empty."""
    where = dict.fromkeys(_PLACES) | given.pop("where", {})
    remedy = {"text": "Change this.", "patch": None, "tried": None} | given.pop("remedy", {})
    rest = {"evidence": {}, "explanation": "What happened.", "also_consistent_with": [], "consequences": []}
    head = {"rule": rule, "family": family, "severity": severity, "confidence": "high", "where": where}
    return head | rest | given | {"remedy": remedy}


@cache
def _healthy() -> Json:
    report = small_training.regression()
    report["summary"] = "Training went well: the loss fell and settled, and clipping was rarely needed."
    report["fit"] |= {"residuals": RESIDUALS, "importance": importance_of(["s5", "bmi", "bp", "sex"], "rmse")}
    report["series"] |= full_tier_of(["s5", "bmi", "bp", "sex"], report["series"]["steps"])
    few = {"rows": 442, "parameters": 929, "rows_per_parameter": 0.4758}
    report["findings"] = [
        finding(
            "data_quality",
            "info",
            "data",
            explanation="442 rows for 929 parameters: few rows for a model of this size.",
            evidence=few,
            remedy={"text": "A smaller model, or more data.", "patch": {"model": {"widths": [16]}}},
        )
    ]
    return report


def full_tier_of(names: list[str], steps: list[int]) -> Json:
    """What the full tier adds to the series: noise of gradients, and the pull of columns, falling."""
    at = steps[:: max(1, len(steps) // 12)]
    scales = [None, *(20.0 * 1.3**i for i in range(1, len(at)))]
    pulls = {name: [0.5 / (i + 1), 0.2 / (i + 1) ** 2] for i, name in enumerate(names)}
    return {
        "gradient_noise": {"steps": at, "noise_scale": scales, "squared_norm": scales, "trace": scales},
        "input_gradient": {"steps": at[:2], "columns": pulls, "columns_of": len(names)},
    }


@cache
def _strained() -> Json:
    report = small_training.regression(clip=0.25, lr=0.05)
    clip = report["clipping"][0]
    summary = "The model learnt, but the clip limit rather than the learning rate set the size of most steps."
    report |= {"verdict": "strained", "summary": summary, "counterfactual": counterfactual_of()}
    report["curvature"] = curvature_of()
    report["findings"] = [
        finding(
            "clipping_dominates",
            "warning",
            explanation="Clipping shortened most gradients.",
            evidence={"fraction": clip["fraction"], "limit": 0.25, "series": "clip_coefficient"},
            remedy={"text": "Raise the limit.", "patch": {"clips": [{"kind": "norm", "max_norm": 1.3}]}},
        )
    ]
    return report


def counterfactual_of(name: str = "scaling") -> Json:
    """Arms of a short training: one that stayed finite, one that diverged, and one that was not run."""
    digests = {"init_digest": "a1" * 32, "batch_order_digest": "b2" * 32}
    arm = {"status": "ran", "reason": None, "left_out": [], "patch": {}, "cut_short": False, **digests}
    loss = [[i, 1 / (i + 1)] for i in range(40)]
    scores = {"rmse": 54.2, "mae": 44.1, "r2": 0.43}
    curve = [[10, 70.0], [20, 60.0], [40, 54.2]]
    series = {"loss": loss, "gradient_norm": loss, "curve": curve}
    whole = {"without": "nothing", "steps": 40, "diverged_at": None, "metrics": scores, **series}
    ran_away = {"loss": [[0, 2e4], [1, 3e19], [2, None]], "gradient_norm": [[0, 1e6]], "curve": []}
    broken = {"without": name, "steps": 3, "diverged_at": 2, "metrics": None, **ran_away}
    absent = dict.fromkeys(("steps", "diverged_at", "metrics", *digests))
    unused = {"without": "huber", "status": "not_used", "reason": "the loss is mse", **absent}
    arms = [{**arm, **whole}, {**arm, **broken, "left_out": ["huber"]}, {**arm, **ran_away, **unused}]
    summary = "Without scaling the training diverged at step 2; with everything it reached RMSE 54.2."
    head = {"steps": 40, "part": "validation", "metric": "rmse", "summary": summary}
    return {**head, **digests, "arms": arms}


def curvature_of(words: str | None = None) -> Json:
    """Of a training that began above its limit and ended below it; eigenvalues on both sides of zero."""
    lr = {"scheduled": 0.05, "clip_coefficient": 0.5, "effective": 0.025}
    edges = [-2.0, -1.0, 0.0, 20.0, 40.0]
    place = {
        "at": "end",
        "step": 40,
        "rows": 308,
        "rows_of": 3080,
        "parameters": 929,
        "lambda_max": {"value": 40.0, "error": 0.02, "converged": True},
        "gauss_newton_lambda_max": {"value": 41.0, "error": 0.03, "converged": True},
        "preconditioned_lambda_max": None,
        "trace": {"value": 90.0, "error": 12.0},
        "density": {"edges": edges, "shares": [0.01, 0.9, 0.0, 0.09], "draws": 4},
        "local_stability_limit": 0.05,
        "lr_over_limit": 0.5,
        "no_limit": None,
        "lr": lr,
        "squared_loss": {
            "gauss_newton_lambda_max": {"value": 80.0, "error": 0.1, "converged": False},
            "local_stability_limit": 0.025,
            "lr_over_limit": 1.0,
        },
    }
    start = place | {"at": "start", "step": 0, "local_stability_limit": 0.0125, "lr_over_limit": 2.0}
    found = place | {"start": start}
    return found | {"summary": told(found) if words is None else words}


_MENDED = {
    "prepare": {"numeric": {"kind": "standard"}, "target": {"kind": "standard"}},
    "loss": {"kind": "huber", "delta": 1.0},
    "clips": [{"kind": "norm", "max_norm": 1.0}],
}


@cache
def _diverged() -> Json:
    report = small_training.regression(scaled=False, clip=None, kind="mse")
    norms = report["series"]["global_norm"]
    summary = (
        "Training ran away within its first steps: raw columns gave gradients that made every step overshoot."
    )
    report |= {"verdict": "diverged", "summary": summary}
    report["findings"] = [
        finding(
            "exploding_gradient",
            "critical",
            where={"step": 1, "epoch": 0, "layer": "layers.0", "phase": "train"},
            confidence=0.97,
            explanation="The gradient norm grew by several powers of ten from one step to the next.",
            evidence={
                "first_norm": norms[0],
                "second_norm": norms[1],
                "scale_ratio": report["data"]["scale_ratio"],
                "largest_columns": ["s1", "s2", "bp"],
                "series": "global_norm",
            },
            also_consistent_with=["a learning rate above the stability limit", "a target that is not scaled"],
            consequences=["non_finite"],
            remedy={"text": "Scale columns and target; clip as a safety net.", "patch": _MENDED},
        ),
        finding(
            "non_finite",
            "critical",
            where={"step": 3, "row": 41, "line": 43, "column": "s1", "layer": "layers.2"},
            evidence={"kind": "inf", "operation": "square", "finite_inputs": True},
        ),
        finding("feature_scale", "warning", "data", where={"column": "s1"}, evidence={"ratio": 31.2}),
    ]
    report["interventions"] = [
        {"step": 4, "action": "skip_step", "reason": "the gradient is not finite", "effect": "weights kept"},
        {"step": 5, "action": "stop", "reason": "too many skipped steps in a row", "effect": None},
    ]
    return report


@cache
def _classes() -> Json:
    report = small_training.classification()
    report["summary"] = "Training went well; the classes separate cleanly."
    report["fit"] |= details_of_classes("benign", "malignant")
    return report


def details_of_classes(first: str, second: str) -> Json:
    """What the report tells of a classifier beside its metrics."""
    bins = [
        {"count": 9, "predicted": p, "observed": o, "low": max(0.0, o - 0.2), "high": min(1.0, o + 0.25)}
        for p, o in ((0.02, 0.0), (0.1, 0.11), (0.45, 0.56), (0.9, 0.89), (0.99, 1.0))
    ]
    line = {"rows": 45, "precision": 0.9, "recall": 0.93, "f1": 0.915, "auc": 0.97, "average_precision": 0.96}
    shares = dict.fromkeys(
        ("accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy"), 0.91234
    )
    judged = {"confusion": [[40, 3], [2, 44]], **shares}
    choices = [
        {"kind": kind, "threshold": t, "applied": kind == "f1", "validation": judged, "test": judged}
        for kind, t in (("half", 0.5), ("f1", 0.3812), ("balanced_accuracy", 0.4471))
    ]
    losses = {"log_loss_before": 0.2212, "log_loss_after": 0.1998}
    return {
        "classification": {
            "rows": 45,
            "rows_of": 45,
            "brier": 0.0523,
            "calibration_error": 0.0311,
            "reliability": bins,
            "reliability_of": second,
            "confusion": {"classes": [first, second], "counts": [[40, 3], [2, 44]]},
            "classes": [{"class": first, **line}, {"class": second, **line}],
        },
        "calibration": {
            "kind": "temperature",
            "rows": 85,
            "temperature": 1.412,
            "better": True,
            "applied": True,
        }
        | losses,
        "threshold": {"applied": "f1", "chosen_on": "validation", "choices": choices},
        "importance": importance_of(["mean radius", "worst texture", "worst area", "symmetry error"]),
    }


def importance_of(names: list[str], metric: str = "log_loss") -> Json:
    """Importance of columns, falling, the last one of no use."""
    columns = [
        {"column": name, "mean": 0.4 / (i + 1) - 0.1, "sd": 0.02, "gradient": 0.9 / (i + 1)}
        for i, name in enumerate(names)
    ]
    return {
        "metric": metric,
        "base": 0.1998,
        "rows": 45,
        "rows_of": 45,
        "repeats": 5,
        "columns": columns,
        "columns_of": len(columns),
        "columns_permuted": len(columns),
    }


RESIDUALS: Json = {
    "rows": 72,
    "quantiles": {"0.01": -120.5, "0.05": -88.1, "0.25": -31.0, "0.5": 1.25, "0.75": 36.0, "0.95": 91.0},
    "median_absolute_error": 33.9,
    "largest_absolute_error": 148.2,
    "mape": 0.3811,
}


def _queued() -> Json:
    return empty_report(summary="The job was cancelled before its first step.")


def _noise(rng: np.random.Generator, points: int) -> list[float]:
    return [float(f"{value:.6g}") for value in 10 ** rng.normal(-2, 1.5, points)]


@cache
def _extreme() -> Json:
    """200 layers over 100,000 steps with as many points as 5 MB hold, and more of all else than is drawn."""
    rng, points = np.random.default_rng(0), 500
    report = copy.deepcopy(_diverged())
    series = {key: _noise(rng, points) for key in ("loss", "lr", "global_norm", "clipped_norm")}
    series["clip_coefficient"] = rng.uniform(0, 1.2, points).tolist()
    report["series"] |= {"steps": np.linspace(0, 100_000, points).astype(int).tolist(), **series}
    kinds = ("norm", "weight_norm", "update_ratio", "zero_fraction")
    layers = {f"blocks.{i}.feed_forward": {key: _noise(rng, points) for key in kinds} for i in range(200)}
    report["series"]["layers"] = layers
    report["series"] |= full_tier_of([f"column {i} " + "x" * 300 for i in range(500)], list(range(2400)))
    report["series"]["nonfinite"] = [{"series": "loss", "step": i, "kind": "nan"} for i in range(2000)]
    report["findings"] = report["findings"] * 60
    names = [f"column {i} " + "x" * 300 for i in range(500)]
    report["data"] |= {
        "gradient_inflation": {name: float(i + 1) for i, name in enumerate(names)},
        "columns": {name: {"mean": 1.23456, "std": 7.0, "type": "numeric"} for name in names},
    }
    passed = {"relative_error": 1e-9, "absolute_error": 1e-12, "h": 1e-5, "status": "pass"}
    report["gradient_check"]["parameters"] = {f"blocks.{i}.weight": passed for i in range(400)}
    curve = [{"epoch": i, "step": i * 200, "train_loss": 1.0, "validation_loss": 1.1} for i in range(500)]
    report["fit"] |= details_of_classes(names[0], names[1]) | {"importance": importance_of(names)}
    report["fit"] |= {"learning_curve": curve, "predictions_sample": rng.normal(size=(500, 2)).tolist()}
    return report


@cache
def _hostile() -> Json:
    """Every text of a report that a data set or a caller could have chosen is an attack."""
    report = copy.deepcopy(_diverged())
    first = report["findings"][0]
    first["where"] |= dict.fromkeys(("layer", "parameter", "column", "phase"), HOSTILE)
    first |= {"explanation": HOSTILE, "also_consistent_with": [HOSTILE], "consequences": [HOSTILE]}
    first["evidence"] = {HOSTILE: HOSTILE, "list": [HOSTILE], "inner": {HOSTILE: HOSTILE}, "series": HOSTILE}
    patch = {"columns": {"exclude": [HOSTILE]}}
    first["remedy"] = {"text": HOSTILE, "patch": patch, "tried": {HOSTILE: HOSTILE}}
    acted = dict.fromkeys(("step", "action", "reason", "effect"), HOSTILE)
    report |= {"summary": HOSTILE, "interventions": [acted], "provenance": {HOSTILE: {HOSTILE: [HOSTILE]}}}
    layer = report["series"]["layers"]["layers.0"]
    report["series"]["layers"] = {HOSTILE: layer, f"{HOSTILE} again": layer}
    report["series"]["nonfinite"] = [{"series": HOSTILE, "step": 1, "kind": HOSTILE}]
    report["series"] |= full_tier_of([HOSTILE], [0, 1])
    clip = {"kind": HOSTILE, "limit": HOSTILE, "fired_steps": 1, "fraction": 0.5, "role": HOSTILE}
    report["clipping"] = [clip]
    checked = {HOSTILE: {"relative_error": 1.0, "status": HOSTILE}}
    report["gradient_check"] |= {"method": HOSTILE, "parameters": checked}
    report["data"] |= {
        "columns": {HOSTILE: {HOSTILE: HOSTILE}},
        "gradient_inflation": {HOSTILE: 20.0},
        "target": {"name": HOSTILE, HOSTILE: HOSTILE},
        "findings": [{"code": HOSTILE, "column": HOSTILE, "detail": HOSTILE}],
    }
    sample = [[HOSTILE, 0.5], ["b", 0.9]]
    scored = {"baselines": {HOSTILE: {"rmse": 1.0}}, "metrics": {"test": {"rmse": 2.0, HOSTILE: 1.0}}}
    report["fit"] |= scored | {"predictions_sample": sample, "gain": {HOSTILE: {HOSTILE: {"value": 1.0}}}}
    report["fit"] |= details_of_classes(HOSTILE, HOSTILE) | {"importance": importance_of([HOSTILE])}
    report["fit"]["importance"]["metric"] = report["fit"]["threshold"]["choices"][0]["kind"] = HOSTILE
    report["fit"]["residuals"] = {"quantiles": {HOSTILE: 1.0, "0.5": 2.0}, "rows": HOSTILE, "mape": HOSTILE}
    report |= {"curvature": curvature_of(HOSTILE) | {HOSTILE: HOSTILE}, "preflight": [{HOSTILE: HOSTILE}]}
    arms = counterfactual_of(HOSTILE) | {"summary": HOSTILE, "metric": HOSTILE, "init_digest": HOSTILE}
    arms["arms"][2] |= {"reason": HOSTILE, "status": HOSTILE}
    report |= {"counterfactual": arms, "repair": [{"patch": {HOSTILE: HOSTILE}}]}
    report["cost"] = {"monitoring_fraction": 0.01, "by_probe": {HOSTILE: 0.01}}
    return report


def _preflight() -> Json:
    """Two scalings, of which one was not stable, and the squared loss of the other."""
    run = {"lr": 0.02, "stable": True, "falls": True, "steps": 80, "loss_before": 0.5, "loss_after": 0.1}
    run |= {"error": 0.4, "error_of": "mae over the best constant's, held-out rows", "tried": []}
    measured = {"rows": 512, "gradient_norm": 0.25, "lambda_max": 3.1, "lambda_max_error": 0.02}
    measured |= {"converged": True, "preconditioned_lambda_max": None, "gauss_newton_lambda_max": 8.2}
    measured |= {"local_stability_limit": 0.6, "gauss_newton_limit": 0.04}
    shown: Json = {"lr": None, "dry_run": None, "recommended": False, "patch": None, "notes": []}
    best = {"scaling": "inputs and target", "prepare": {}, "loss": "huber", **measured, "lr": 0.02}
    best |= {"dry_run": run, "recommended": True, "notes": ["without the means over neighbours"]}
    best |= {"patch": {"prepare": {"numeric": {"kind": "standard"}}, "optimizer": {"lr": 0.02}}}
    raw = {"scaling": "none", "prepare": {}, "loss": "huber", **measured, **shown}
    raw |= {"dry_run": run | {"stable": False, "falls": False}, "lambda_max": -1.3, "converged": False}
    squared = {"scaling": "inputs and target", "prepare": {}, "loss": "mse", **measured, **shown}
    data = _healthy()["data"]
    return preflight_report([best, squared, raw], data, summary="Scaled it is 0.04. Use 0.02 with sgd.")


REPORTS: dict[str, Callable[[], Json]] = {
    "preflight": _preflight,
    "healthy": _healthy,
    "strained": _strained,
    "diverged": _diverged,
    "classes": _classes,
    "queued": _queued,
    "extreme": _extreme,
    "hostile": _hostile,
}


def report_named(name: str) -> Json:
    """A copy of a report as it comes back from its JSON, the caller's to change."""
    return json.loads(json.dumps(REPORTS[name]()))


JOB: Json = {
    "id": "job_4Yk2mQ8xZp0aBcDeFgHiJk",
    "kind": "train",
    "state": "succeeded",
    "dataset_id": "ds_1",
    "ended_at": "2026-11-20T18:03:21Z",
    "config": {
        "dataset_id": "ds_1",
        "target": "progression",
        "task": "regression",
        "model": {"kind": "mlp", "widths": [32, 16]},
        "optimizer": {"kind": "sgd", "lr": 0.01},
        "clips": [{"kind": "norm", "max_norm": 1.0}],
        "health": {"tier": "standard", "gradient_check": True},
    },
}


def job_of(name: str) -> Json:
    """The job's document that belongs to a report."""
    job = copy.deepcopy(JOB)
    job["state"] = {"queued": "cancelled", "diverged": "failed"}.get(name, "succeeded")
    if name == "classes":
        job["config"] |= {"task": "binary", "target": "diagnosis"}
    return job
