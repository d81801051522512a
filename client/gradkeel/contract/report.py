"""The gradient-health report: its fixed keys, an empty one, and its JSON Schema.

Every top-level key is always present; what was not computed is null or an empty list. Numbers that are not
finite are null in the document; the series list their places under ``nonfinite``. The schema is served at
``/v1/schemas/report.json``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gradkeel.contract.counterfactual import ARMS, STATUSES
from gradkeel.contract.curvature import PLACES
from gradkeel.contract.states import Family, Severity, Verdict

Json = dict[str, Any]

SCHEMA_VERSION = "1.0"

# Rule → family. The worker's table of rules has the same keys.
RULES: dict[str, Family] = {
    "non_finite": Family.GRADIENT,
    "exploding_gradient": Family.GRADIENT,
    "vanishing_gradient": Family.GRADIENT,
    "dead_units": Family.GRADIENT,
    "saturated_activation": Family.GRADIENT,
    "clipping_dominates": Family.GRADIENT,
    "lr_too_high": Family.GRADIENT,
    "lr_too_low": Family.GRADIENT,
    "gradient_mismatch": Family.GRADIENT,
    "poor_initialisation": Family.GRADIENT,
    "spike": Family.GRADIENT,
    "noisy_gradient": Family.GRADIENT,
    "feature_scale": Family.DATA,
    "target_scale": Family.DATA,
    "outliers": Family.DATA,
    "leak_suspect": Family.DATA,
    "data_quality": Family.DATA,
    "no_better_than_baseline": Family.FIT,
    "biased_predictions": Family.FIT,
    "overfit": Family.FIT,
    "loss_not_decreasing": Family.FIT,
    "oscillation": Family.FIT,
}


def empty_report(*, verdict: str | None = None, summary: str = "") -> Json:
    """A report with every fixed key and nothing computed; no verdict either, unless one is given."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": None if verdict is None else str(verdict),
        "summary": summary,
        "findings": [],
        "series": {
            "steps": [],
            "loss": [],
            "lr": [],
            "global_norm": [],
            "clipped_norm": [],
            "clip_coefficient": [],
            "loss_z": [],
            "norm_z": [],
            "first_to_last_layer": [],
            "layers": {},
            "nonfinite": [],
            "cosine": [],
            "gradient_noise": None,
            "input_gradient": None,
            "histogram_bins": [],
            "curvature": None,
        },
        "clipping": [],
        "interventions": [],
        "gradient_check": None,
        "curvature": None,
        "data": None,
        "preflight": [],
        "counterfactual": None,
        "repair": [],
        "fit": None,
        "cost": None,
        "provenance": None,
    }


def preflight_report(entries: Sequence[Json], data: Json | None, *, summary: str) -> Json:
    """The report of a preflight: one entry for each scaling and loss, and what is known of the data.

    Nothing was trained, so every other key is null or an empty list, the series too.
    """
    return empty_report(summary=summary) | {"series": None, "preflight": list(entries), "data": data}


def preflight_without_result(error: Mapping[str, Any] | None) -> Json:
    """The report of a preflight that ended before its end: cancelled, where there is no error."""
    if error is None:
        return preflight_report([], None, summary="The preflight was cancelled before it was done.")
    reason = str(error.get("message") or "no reason was recorded").rstrip(".")
    return preflight_report([], None, summary=f"The preflight failed: {reason}.")


_NUMBER: Json = {"type": ["number", "null"]}
_TEXT: Json = {"type": ["string", "null"]}
_INTEGER: Json = {"type": ["integer", "null"]}
_NUMBERS: Json = {"type": "array", "items": _NUMBER}
_OBJECT_OR_NULL: Json = {"type": ["object", "null"]}


def _record(properties: Json, *, required: list[str] | None = None, nullable: bool = False) -> Json:
    return {
        "type": ["object", "null"] if nullable else "object",
        "properties": properties,
        "required": sorted(properties) if required is None else required,
    }


_FINDING = _record(
    {
        "rule": {"enum": list(RULES)},
        "family": {"enum": [str(family) for family in Family]},
        "severity": {"enum": [str(severity) for severity in Severity]},
        "confidence": {"type": ["string", "number"]},
        "where": _record(
            {
                "layer": _TEXT,
                "parameter": _TEXT,
                "step": _INTEGER,
                "epoch": _INTEGER,
                "row": _INTEGER,
                "line": _INTEGER,
                "column": _TEXT,
                "phase": _TEXT,
            }
        ),
        "evidence": {"type": "object"},
        "explanation": {"type": "string", "minLength": 1},
        "also_consistent_with": {"type": "array", "items": {"type": "string"}},
        "consequences": {"type": "array", "items": {"enum": list(RULES)}},
        "remedy": _record({"text": {"type": "string"}, "patch": _OBJECT_OR_NULL, "tried": _OBJECT_OR_NULL}),
    }
)

_STEPS: Json = {"type": "array", "items": {"type": "integer"}}
_HISTOGRAM = _record({"steps": _STEPS, "counts": {"type": "array", "items": _STEPS}})
_GRADIENT_NOISE = _record(
    {"steps": _STEPS} | dict.fromkeys(("squared_norm", "trace", "noise_scale"), _NUMBERS), nullable=True
)
_INPUT_GRADIENT = _record(
    {
        "steps": _STEPS,
        "columns": {"type": "object", "additionalProperties": _NUMBERS},
        "columns_of": {"type": "integer"},
    },
    nullable=True,
)

_EIGENVALUES = _record({"steps": _STEPS} | dict.fromkeys(("value", "error", "converged"), _NUMBERS))
_SERIES_OF_CURVATURE: Json = {
    "type": ["object", "null"],
    "description": "what the full tier measured at some steps",
    "properties": {
        **dict.fromkeys(("lambda_max", "gauss_newton_lambda_max", "preconditioned_lambda_max"), _EIGENVALUES),
        "hessian_trace": _record({"steps": _STEPS, "value": _NUMBERS, "error": _NUMBERS}),
        "hessian_density": _record(
            {
                "steps": _STEPS,
                "bins": {"type": "array", "items": {"type": "string"}},
                "shares": {"type": "array", "items": _NUMBERS},
            }
        ),
    },
}

_SERIES = _record(
    {
        "steps": _STEPS,
        "loss": _NUMBERS,
        "lr": _NUMBERS,
        "global_norm": _NUMBERS,
        "clipped_norm": _NUMBERS,
        "clip_coefficient": _NUMBERS,
        "loss_z": _NUMBERS,
        "norm_z": _NUMBERS,
        "first_to_last_layer": _NUMBERS,
        "layers": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": dict.fromkeys(("norm", "weight_norm", "update_ratio"), _NUMBERS)
                | dict.fromkeys(("gradient_histogram", "weight_histogram"), _HISTOGRAM),
            },
        },
        "nonfinite": {
            "type": "array",
            "items": _record(
                {
                    "series": {"type": "string"},
                    "step": {"type": "integer"},
                    "kind": {"enum": ["nan", "inf", "-inf"]},
                }
            ),
        },
        "cosine": _NUMBERS,
        "gradient_noise": _GRADIENT_NOISE,
        "input_gradient": _INPUT_GRADIENT,
        "histogram_bins": {"type": "array", "items": {"type": "string"}},
        "curvature": _SERIES_OF_CURVATURE,
    },
    # z-scores, the ratio of layers and the full tier came later: reports of before are without them
    required=[
        "clip_coefficient",
        "clipped_norm",
        "global_norm",
        "layers",
        "loss",
        "lr",
        "nonfinite",
        "steps",
    ],
    nullable=True,
)

_CLIPPING = _record(
    {
        "kind": {"type": "string"},
        "fired_steps": {"type": "integer"},
        "fraction": _NUMBER,
        "median_coefficient": _NUMBER,
        "role": {"enum": ["idle", "safety_net", "step_size_limiter", "batch_reweighter"]},
    }
)

_GRADIENT_CHECK = _record(
    {
        "parameters": {
            "type": "object",
            "additionalProperties": _record(
                {
                    "relative_error": _NUMBER,
                    "absolute_error": _NUMBER,
                    "h": _NUMBER,
                    "status": {"enum": ["pass", "fail", "kink", "dead"]},
                }
            ),
        },
        "culprits": {
            "type": "array",
            "description": "layers, or the loss, whose backward is wrong, checked one by one",
            "items": _record(
                {
                    "what": {"enum": ["layer", "loss"]},
                    "name": {"type": "string"},
                    "kind": {"type": "string"},
                    "with_respect_to": {"type": "array", "items": {"type": "string"}},
                    "relative_error": _NUMBER,
                    "factor": _NUMBER,
                }
            ),
        },
        "h_sweep": {"type": "array"},
        "method": {"type": "string"},
    },
    # culprits came later: reports of before are without them
    required=["h_sweep", "method", "parameters"],
    nullable=True,
)

_INTERVENTION = _record(
    {"step": _INTEGER, "action": {"type": "string"}, "reason": {"type": "string"}, "effect": _TEXT}
)

_REPAIR = _record(
    {
        "attempt": {"type": "integer", "description": "from 1; a refused change has the next one's number"},
        "rule": {"enum": list(RULES)},
        "text": {"type": "string"},
        "patch": {"type": "object", "description": "against the config of the run before, as submitted"},
        "from": {"enum": ["last_good", "start"]},
        "step": {"type": "integer", "description": "the step that the attempt began at"},
        "stopped_at": {"type": "integer", "description": "steps that the run before had taken"},
        "failed": {"type": "string", "description": "what was critical in the run before"},
        "metric": _TEXT,
        "before": _OBJECT_OR_NULL,
        "after": _OBJECT_OR_NULL,
        "gained": _NUMBER | {"description": "before − after of the metric, on the same validation rows"},
        "steps": _INTEGER | {"description": "that the attempt took"},
        "status": {"enum": ["applied", "reverted", "refused"]},
        "reason": {"type": "string"},
    }
)

_CROSS_VALIDATION = _record(
    {
        "kind": {"type": "string"},
        "folds": {"type": "integer"},
        "repeats": {"type": "integer"},
        "metrics": {"type": "object", "description": "metric → mean and standard deviation over the folds"},
        "baselines": {"type": "object", "description": "the same of each baseline, by its name"},
        "failed": {"type": "array", "items": {"type": "integer"}},
        "per_fold": {
            "type": "array",
            "items": _record(
                {
                    "fold": {"type": "integer"},
                    "status": {"enum": ["succeeded", "diverged"]},
                    "stopped_by": {"type": "string"},
                    "rows": {"type": "object"},
                    "epochs": {"type": "integer"},
                    "best_epoch": _INTEGER,
                    "metrics": _OBJECT_OR_NULL,
                    "baselines": _OBJECT_OR_NULL,
                }
            ),
        },
    },
    nullable=True,
)

_SHARES = ("accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy")
_COUNTS: Json = {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
_WHOLE: Json = {"type": "integer"}

_CLASSIFICATION = _record(
    {
        "rows": _WHOLE,
        "rows_of": _WHOLE,
        "brier": _NUMBER,
        "calibration_error": _NUMBER,
        "reliability": {
            "type": "array",
            "items": _record(
                {"count": _WHOLE} | dict.fromkeys(("predicted", "observed", "low", "high"), _NUMBER)
            ),
        },
        "reliability_of": _TEXT,
        "confusion": _record({"classes": {"type": "array"}, "counts": _COUNTS}, nullable=True),
        "classes": {
            "type": "array",
            "items": _record(
                {"class": {"type": "string"}, "rows": _WHOLE}
                | dict.fromkeys(("precision", "recall", "f1", "auc", "average_precision"), _NUMBER)
            ),
        },
    },
    nullable=True,
)

_AT_THRESHOLD = _record({"confusion": _COUNTS} | dict.fromkeys(_SHARES, _NUMBER), nullable=True)
_THRESHOLD = _record(
    {
        "applied": {"type": "string"},
        "chosen_on": {"type": "string"},
        "choices": {
            "type": "array",
            "items": _record(
                {
                    "kind": {"type": "string"},
                    "threshold": {"type": "number"},
                    "applied": {"type": "boolean"},
                    "validation": _AT_THRESHOLD,
                    "test": _AT_THRESHOLD,
                }
            ),
        },
    },
    nullable=True,
)

_CALIBRATION = _record(
    {
        "kind": {"type": "string"},
        "rows": _WHOLE,
        "temperature": _NUMBER,
        "better": {"type": "boolean"},
        "applied": {"type": "boolean"},
        "log_loss_before": _NUMBER,
        "log_loss_after": _NUMBER,
    },
    nullable=True,
)

_RESIDUALS = _record(
    {
        "rows": _WHOLE,
        "quantiles": {"type": "object", "additionalProperties": _NUMBER},
        "median_absolute_error": _NUMBER,
        "largest_absolute_error": _NUMBER,
        "mape": _NUMBER,
    },
    nullable=True,
)

_IMPORTANCE = _record(
    {
        "metric": {"type": "string"},
        "base": _NUMBER,
        "rows": _WHOLE,
        "rows_of": _WHOLE,
        "repeats": _WHOLE,
        "columns_of": _WHOLE,
        "columns_permuted": _WHOLE,
        "columns": {
            "type": "array",
            "items": _record(
                {
                    "column": {"type": "string"},
                    "mean": _NUMBER,
                    "sd": _NUMBER,
                    "gradient": _NUMBER,
                    "gradient_by_class": {"type": "object"},
                },
                required=["column", "mean", "sd"],
            ),
        },
    },
    nullable=True,
)

_PAIRS: Json = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
_ARM = _record(
    {
        "without": {"enum": list(ARMS)},
        "status": {"enum": list(STATUSES)},
        "reason": _TEXT,
        "left_out": {"type": "array", "items": {"enum": list(ARMS)}},
        "patch": _OBJECT_OR_NULL,
        "steps": {"type": ["integer", "null"], "description": "taken"},
        "cut_short": {"type": "boolean", "description": "by its share of max_seconds"},
        "diverged_at": {"type": ["integer", "null"], "description": "first step that was not finite"},
        "metrics": {"type": ["object", "null"], "description": "after the last step, in target units"},
        "loss": _PAIRS,
        "gradient_norm": _PAIRS,
        "curve": {**_PAIRS, "description": "steps taken and the metric on the validation rows"},
        "init_digest": _TEXT,
        "batch_order_digest": _TEXT,
    }
)
_COUNTERFACTUAL = _record(
    {
        "steps": {"type": "integer", "description": "of each arm at most"},
        "part": {"enum": ["validation", "train"], "description": "whose rows metrics are of"},
        "metric": {"type": ["string", "null"], "description": "that arms are held against one another by"},
        "init_digest": {"type": "string", "description": "sha256 of the first weights"},
        "batch_order_digest": {"type": "string", "description": "sha256 of the rows of each batch"},
        "summary": _TEXT,
        "arms": {"type": "array", "items": _ARM},
    },
    nullable=True,
)

_EIGENVALUE = _record(
    {
        "value": {"type": "number", "description": "signed"},
        "error": {"type": "number", "description": "an eigenvalue lies within it of the value"},
        "converged": {"type": "boolean"},
    },
    nullable=True,
)
_OF_LIMIT: Json = {
    "local_stability_limit": {**_NUMBER, "description": "learning rate above which steps no longer settle"},
    "lr_over_limit": {**_NUMBER, "description": "the effective learning rate over the limit"},
}
_AT_PLACE: Json = {
    "at": {"enum": list(PLACES)},
    "step": _WHOLE,
    "rows": {"type": "integer", "description": "training rows it was measured on"},
    "rows_of": _WHOLE,
    "parameters": _WHOLE,
    "lambda_max": _EIGENVALUE,
    "gauss_newton_lambda_max": _EIGENVALUE,
    "preconditioned_lambda_max": {**_EIGENVALUE, "description": "as an optimizer that divides meets it"},
    "trace": _record({"value": _NUMBER, "error": _NUMBER}, nullable=True),
    "density": _record(
        {
            "edges": _NUMBERS,
            "shares": {**_NUMBERS, "description": "of the eigenvalues, one per bin"},
            "draws": _WHOLE,
        },
        nullable=True,
    ),
    **_OF_LIMIT,
    "no_limit": {**_TEXT, "description": "why there is no limit, where there is none"},
    "lr": _record(dict.fromkeys(("scheduled", "clip_coefficient", "effective"), _NUMBER)),
    "squared_loss": {
        **_record({"gauss_newton_lambda_max": _EIGENVALUE, **_OF_LIMIT}, nullable=True),
        "description": "the same for the loss's squared part, under losses that bound a row's gradient",
    },
}
_CURVATURE = _record(
    _AT_PLACE | {"start": _record(_AT_PLACE), "summary": _TEXT},
    nullable=True,
)

_NUMBERS_OR_NULL: Json = {"type": ["array", "null"], "items": _NUMBER}
_INTERVALS = _record(
    {
        "kind": {"enum": ["split_conformal", "conformalised_quantiles"]},
        "rows": {"type": "integer"},
        "note": {"type": "string"},
        "targets": {"type": "array", "items": {"type": "string"}},
        "levels": {
            "type": "array",
            "items": _record(
                {
                    "level": {"type": "number"},
                    "between": {"type": ["array", "null"], "items": {"type": "integer"}},
                    "margins": _NUMBERS,
                    "tested_on": {"type": "integer"},
                    "coverage": _NUMBERS_OR_NULL,
                    "coverage_low": _NUMBERS_OR_NULL,
                    "coverage_high": _NUMBERS_OR_NULL,
                    "width": _NUMBERS_OR_NULL,
                }
            ),
        },
    },
    nullable=True,
)

DETAILS: Json = {
    "classification": _CLASSIFICATION,
    "threshold": _THRESHOLD,
    "calibration": _CALIBRATION,
    "residuals": _RESIDUALS,
    "importance": _IMPORTANCE,
}
"""Blocks of ``fit`` that tell of the model beside its metrics."""

_FIT_CORE: Json = {
    "metrics": _OBJECT_OR_NULL,
    "baselines": _OBJECT_OR_NULL,
    "gain": _OBJECT_OR_NULL,
    "mean_residual": _NUMBER,
    "best_epoch": _INTEGER,
    "epochs": _INTEGER,
    "seconds": _NUMBER,
}

_CHECKS: Json = {
    "type": "object",
    "description": "what was checked at the initial weights",
    "properties": {
        "initial_loss": _record(dict.fromkeys(("loss", "best_constant", "ratio"), _NUMBER), nullable=True),
        "one_batch": _record(
            {"rows": _WHOLE, "steps": _WHOLE, "status": {"enum": ["pass", "fail", "unknown"]}}
            | dict.fromkeys(("initial_loss", "loss", "best_constant", "lowest", "covered"), _NUMBER),
            nullable=True,
        ),
    },
}

_FIT = _record(
    _FIT_CORE
    | DETAILS
    | {"cross_validation": _CROSS_VALIDATION, "sample_of": _TEXT, "worst_target": _TEXT}
    | {"intervals": _INTERVALS, "checks": _CHECKS},
    # scores of folds, the details, intervals and what is told of several outputs came later
    required=sorted(_FIT_CORE),
    nullable=True,
)

_DRY_RUN = _record(
    {
        "lr": _NUMBER,
        "stable": {"type": "boolean"},
        "falls": {"type": "boolean"},
        "steps": _WHOLE,
        "loss_before": _NUMBER,
        "loss_after": _NUMBER,
        "error": _NUMBER | {"description": "on rows that were held out, see error_of"},
        "error_of": {"type": "string"},
        "tried": {"type": "array", "items": _record({"lr": _NUMBER, "stable": {"type": "boolean"}})},
    },
    nullable=True,
)

_PREFLIGHT = _record(
    {
        "scaling": {"type": "string"},
        "prepare": {"type": "object", "description": "the scaling of numeric columns and of the target"},
        "loss": {"type": "string"},
        "rows": _WHOLE | {"description": "rows that gradient and curvature were measured on"},
        "gradient_norm": _NUMBER,
        "lambda_max": _NUMBER,
        "lambda_max_error": _NUMBER,
        "converged": {"type": ["boolean", "null"]},
        "preconditioned_lambda_max": _NUMBER,
        "gauss_newton_lambda_max": _NUMBER,
        "local_stability_limit": _NUMBER | {"description": "null where the curvature sets none"},
        "gauss_newton_limit": _NUMBER,
        "lr": _NUMBER | {"description": "the rate to use; null for a loss that is only shown"},
        "dry_run": _DRY_RUN,
        "recommended": {"type": "boolean"},
        "patch": _OBJECT_OR_NULL,
        "notes": {"type": "array", "items": {"type": "string"}},
    }
)

REPORT_SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Gradkeel gradient-health report",
    **_record(
        {
            "schema_version": {"const": SCHEMA_VERSION},
            "verdict": {"enum": [*map(str, Verdict), None], "description": "null where no step was trained"},
            "summary": {"type": "string"},
            "findings": {"type": "array", "items": _FINDING},
            "series": _SERIES,
            "clipping": {"type": "array", "items": _CLIPPING},
            "interventions": {"type": "array", "items": _INTERVENTION},
            "gradient_check": _GRADIENT_CHECK,
            "curvature": _CURVATURE,
            "data": _OBJECT_OR_NULL,
            "preflight": {"type": "array", "items": _PREFLIGHT},
            "counterfactual": _COUNTERFACTUAL,
            "repair": {"type": "array", "items": _REPAIR},
            "fit": _FIT,
            "cost": _record({"monitoring_fraction": _NUMBER, "by_probe": {"type": "object"}}, nullable=True),
            "provenance": _OBJECT_OR_NULL,
        }
    ),
}
