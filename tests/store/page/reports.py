"""The reports that the page's tests draw, by name."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import small_training

from gradkeel.contract.report import empty_report

HOSTILE = '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1">" onload="window.pwned=1" \u202egnp.exe\u0000\ud800'


def _where(**known: Any) -> dict[str, Any]:
    return dict.fromkeys(("layer", "parameter", "step", "epoch", "row", "line", "column", "phase")) | known


def finding(rule: str, severity: str = "warning", family: str = "gradient", **given: Any) -> dict[str, Any]:
    remedy = {"text": "Change this.", "patch": None, "tried": None} | given.pop("remedy", {})
    whole = {"confidence": "high", "where": _where(**given.pop("where", {})), "evidence": {}, "explanation": "What happened.", "also_consistent_with": [], "consequences": []}
    return {"rule": rule, "family": family, "severity": severity, **whole, **given, "remedy": remedy}


@cache
def _healthy() -> dict[str, Any]:
    report = small_training.regression()
    report["summary"] = "Training went well: the loss fell and settled, gradients stayed of even size in every layer, and clipping was needed only in the first steps."
    report["interventions"] = []
    report["findings"] = [
        finding("data_quality", "info", "data", explanation="442 rows for 929 parameters: few rows for a model of this size.", evidence={"rows": 442, "parameters": 929, "rows_per_parameter": 0.4758}, remedy={"text": "A smaller model, or more data.", "patch": {"model": {"widths": [16]}}}),
    ]  # fmt: skip
    return report


@cache
def _diverged() -> dict[str, Any]:
    report = small_training.regression(scaled=False, clip=None, kind="mse")
    report |= {"verdict": "diverged", "summary": "Training ran away within its first steps: columns in raw units, up to 189 in size, gave gradients so long that every step overshot further than the one before."}
    norms = report["series"]["global_norm"]
    report["findings"] = [
        finding(
            "exploding_gradient", "critical", where={"step": 1, "epoch": 0, "layer": "layers.0", "phase": "train"}, confidence=0.97,
            explanation="The gradient norm grew by several powers of ten from one step to the next. The columns reach the model in raw units, so the first layer’s gradient is thousands of times longer than the weights it should adjust.",
            evidence={"first_norm": norms[0], "second_norm": norms[1], "growth": (norms[1] or 0) / (norms[0] or 1), "scale_ratio": report["data"]["scale_ratio"], "largest_columns": ["s1", "s2", "bp"], "series": "series.global_norm"},
            also_consistent_with=["a learning rate above the local stability limit", "a target that is not scaled (its spread is 77)"], consequences=["non_finite"],
            remedy={"text": "Standardise the columns and the target, and use the Huber loss with a norm clip as a safety net.", "patch": {"prepare": {"numeric": {"kind": "standard"}, "target": {"kind": "standard"}}, "loss": {"kind": "huber", "delta": 1.0}, "clips": [{"kind": "norm", "max_norm": 1.0}]}},
        ),
        finding("non_finite", "critical", where={"step": 3, "row": 41, "line": 43, "column": "s1", "layer": "layers.2"}, explanation="The loss overflowed. It passed on what the exploding gradient had made of the weights.", evidence={"kind": "inf", "producer": "square of the residual", "finite_inputs": True}),
        finding("feature_scale", "warning", "data", where={"column": "s1"}, explanation="Column s1 is fed with a root mean square of 189, the median column with 6.", evidence={"ratio": 31.2, "predicted_inflation": 974.1}),
    ]  # fmt: skip
    report["interventions"] = [{"step": 4, "action": "skip_step", "reason": "gradient is not finite", "effect": "weights kept"}, {"step": 5, "action": "stop", "reason": "5 skipped steps in a row", "effect": None}]
    return report


@cache
def _strained() -> dict[str, Any]:
    report = small_training.regression(clip=0.25, lr=0.05)
    report |= {"verdict": "strained", "summary": "The model learnt, but the clip limit is so low that it, rather than the learning rate, set the size of most steps."}
    entry = report["clipping"][0]
    report["findings"] = [
        finding("clipping_dominates", evidence={"fraction": entry["fraction"], "median_coefficient": entry["median_coefficient"], "limit": 0.25, "series": "clipping"}, explanation="Clipping shortened most gradients.", remedy={"text": "Raise the limit to the 90th percentile of the norms.", "patch": {"clips": [{"kind": "norm", "max_norm": 1.3}]}}),
    ]  # fmt: skip
    return report


@cache
def _classes() -> dict[str, Any]:
    report = small_training.classification()
    report["summary"] = "Training went well; the classes separate cleanly."
    return report


def _queued() -> dict[str, Any]:
    return empty_report(summary="The job was cancelled before its first step.")


@cache
def _extreme() -> dict[str, Any]:
    """200 layers behind the most points the report keeps, and more findings and columns than can be drawn."""
    rng, points, layers = np.random.default_rng(0), 2000, 200
    report = copy.deepcopy(_diverged())
    noise = lambda: (10 ** rng.normal(-2, 1.5, points)).tolist()  # noqa: E731
    report["series"] |= {"steps": np.linspace(0, 100_000, points).astype(int).tolist(), **{key: noise() for key in ("loss", "lr", "global_norm", "clipped_norm")}, "clip_coefficient": rng.uniform(0, 1.2, points).tolist()}
    report["series"]["layers"] = {f"blocks.{i}.feed_forward.linear": {"norm": noise(), "weight_norm": noise(), "update_ratio": noise(), "zero_fraction": noise()} for i in range(layers)}
    report["series"]["nonfinite"] = [{"series": "loss", "step": i, "kind": "nan"} for i in range(3000)]
    report["series"]["epochs"] = [{"epoch": i, "step": i * 100, "validation_loss": float(rng.uniform(0, 1))} for i in range(1000)]
    report["findings"] = report["findings"] * 60
    names = [f"column {i} " + "x" * 300 for i in range(3000)]
    report["data"] |= {"gradient_inflation": {n: float(i + 1) for i, n in enumerate(names)}, "columns": [{"name": n, "mean": 1.23456} for n in names], "findings": [{"code": "constant", "column": n, "detail": "The column is constant."} for n in names]}
    report["gradient_check"]["parameters"] = {f"p{i}": {"relative_error": 1e-9, "absolute_error": 1e-12, "h": 1e-5, "status": "pass"} for i in range(1000)}
    report["fit"] |= {"predictions_sample": {"row": list(range(5000)), "actual": rng.normal(size=5000).tolist(), "prediction": rng.normal(size=5000).tolist()}}
    return report


@cache
def _hostile() -> dict[str, Any]:
    """Every text of a report that a data set or a caller could have chosen."""
    report = copy.deepcopy(_diverged())
    given = report["findings"][0]
    for key in ("layer", "parameter", "column", "phase"):
        given["where"][key] = HOSTILE
    given |= {"explanation": HOSTILE, "also_consistent_with": [HOSTILE], "consequences": [HOSTILE], "evidence": {HOSTILE: HOSTILE, "list": [HOSTILE], "nested": {HOSTILE: HOSTILE}, "series": HOSTILE}}
    given["remedy"] = {"text": HOSTILE, "patch": {"columns": {"exclude": [HOSTILE.replace("\ud800", "")]}}, "tried": {HOSTILE: HOSTILE}}
    report |= {"summary": HOSTILE, "interventions": [{"step": HOSTILE, "action": HOSTILE, "reason": HOSTILE, "effect": HOSTILE}], "provenance": {HOSTILE: {HOSTILE: HOSTILE}}}
    report["series"]["layers"] = {HOSTILE: report["series"]["layers"]["layers.0"], HOSTILE + "2": report["series"]["layers"]["layers.1"]}
    report["series"]["nonfinite"] = [{"series": HOSTILE, "step": 1, "kind": HOSTILE}]
    report["clipping"] = [{"kind": HOSTILE, "fired_steps": 1, "fraction": 0.5, "median_coefficient": 0.1, "role": HOSTILE}]
    report["gradient_check"] |= {"method": HOSTILE, "parameters": {HOSTILE: {"relative_error": 1.0, "status": HOSTILE}}}
    report["data"] = {"columns": [{"name": HOSTILE, HOSTILE: HOSTILE}], "scale_ratio": 5.0, "gradient_inflation": {HOSTILE: 20.0}, "target": {HOSTILE: HOSTILE}, "findings": [{"code": HOSTILE, "column": HOSTILE, "detail": HOSTILE}]}
    report["fit"] |= {"baselines": {HOSTILE: {"rmse": 1.0}}, "metrics": {"test": {"rmse": 2.0, HOSTILE: 1.0}}, "predictions_sample": {"row": [HOSTILE, HOSTILE], "actual": [HOSTILE, "b"], "prediction": ["b", HOSTILE], "classes": [HOSTILE, "b"], "probabilities": [[0.5, 0.5], [0.1, 0.9]]}}
    report |= {"curvature": {HOSTILE: HOSTILE}, "preflight": [{HOSTILE: HOSTILE}], "counterfactual": {"arms": [{"without": HOSTILE}]}, "repair": [{"attempt": 1, "patch": {HOSTILE: HOSTILE}}]}
    return report


MAKERS = {"healthy": _healthy, "strained": _strained, "diverged": _diverged, "classes": _classes, "queued": _queued, "extreme": _extreme, "hostile": _hostile}


def report_named(name: str) -> dict[str, Any]:
    """A copy of a report, the caller's to change."""
    return copy.deepcopy(MAKERS[name]())


JOB: dict[str, Any] = {
    "id": "job_4Yk2mQ8xZp0aBcDeFgHiJk", "kind": "train", "state": "succeeded", "dataset_id": "ds_1", "ended_at": "2026-11-20T18:03:21Z",
    "config": {"dataset_id": "ds_1", "target": "progression", "task": "regression", "model": {"kind": "mlp", "widths": [32, 16]}, "optimizer": {"kind": "sgd", "lr": 0.01}, "clips": [{"kind": "norm", "max_norm": 1.0}], "health": {"tier": "standard", "gradient_check": True}},
}  # fmt: skip
