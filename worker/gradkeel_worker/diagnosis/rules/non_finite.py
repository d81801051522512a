"""NaN or infinity anywhere: where it was first seen, and where it came from."""

from __future__ import annotations

from typing import Any

from gradkeel.contract.patch import combine, set_value
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.evidence import Origin
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import number, percent

Json = dict[str, Any]

HARMFUL_SHARE = 0.05
"""Share of skipped steps above which the finding is critical even though training went on."""
_SQUARE_OVERFLOWS = 1.8e19
"""float32 numbers above this have no finite square."""


def non_finite(case: Case) -> list[Finding]:
    """Any NaN or infinity in input, activation, loss, gradient or weight."""
    event, bad = case.evidence.readings.nonfinite_event, case.course.bad
    if event is None and not bad.any():
        return []
    cause = _cause(case)
    return [
        Finding(
            rule="non_finite",
            family=Family.GRADIENT,
            severity=_severity(case),
            confidence="high" if cause == "data_cell" else "medium",
            explanation=f"{_seen(case)} {_because(case, cause)}{_afterwards(case)}",
            remedy=_remedy(case, cause),
            evidence=_evidence(case, cause),
            where=_where(case),
            also_consistent_with=_alternatives(cause),
        )
    ]


def _severity(case: Case) -> Severity:
    bad = case.course.bad
    kept = bool(len(bad)) and not bad[-1] and float(bad.mean()) <= HARMFUL_SHARE
    if case.lost or case.evidence.model is None or not kept:
        return Severity.CRITICAL
    return Severity.WARNING


def _cause(case: Case) -> str:
    """data_cell, domain, fp16, loss_overflow, start, step_too_large or unknown."""
    origin = case.origin
    if case.cause in ("data_cell", "domain"):
        return str(case.cause)
    if case.bits_too_few and case.explosion is None:
        return "fp16"
    if _loss_overflows(case, origin):
        return "loss_overflow"
    if case.explosion is not None or _weights_ran_off(case):
        return "step_too_large"
    return "start" if case.course.first_bad == 0 else "unknown"


def _loss_overflows(case: Case, origin: Origin | None) -> bool:
    """A squared error that no float32 holds, before any step had been taken."""
    target = case.feed.target if case.feed is not None else None
    huge = target is not None and target.rms > _SQUARE_OVERFLOWS / 1e3
    return case.course.first_bad == 0 and (huge or (origin is not None and origin.what == "loss"))


def _weights_ran_off(case: Case) -> bool:
    if case.origin is not None and case.origin.what == "weight":
        return True
    bad = case.course.first_bad
    return bad is not None and bad > 0 and case.cause in ("inputs", "target", "init", "lr", "outliers")


def _evidence(case: Case, cause: str) -> Json:
    bad, readings, origin = case.course.bad, case.evidence.readings, case.origin
    found: Json = {
        "most_likely_cause": cause,
        "steps_affected": int(bad.sum()),
        "steps": len(bad),
        "share_of_steps": float(bad.mean()) if len(bad) else 0.0,
        "skipped_steps": int(readings.skipped.sum()),
        "nonfinite_gradient_entries": int(readings.nonfinite.sum()),
    }
    if origin is not None:
        found |= {"first_seen_in": origin.what, "kind": origin.kind, "operation": origin.operation}
        if origin.largest_input is not None:
            found["largest_input"] = float(origin.largest_input)
    event = readings.nonfinite_event
    if event is not None and event.get("rows"):
        found["batch_rows"] = [int(row) for row in list(event["rows"])[:50]]
    if case.course.sound:
        found["last_finite_loss"] = float(case.course.losses[-1])
        found["last_finite_norm"] = float(case.course.norms[-1])
    return found


def _where(case: Case) -> Json:
    event, origin, readings = (
        case.evidence.readings.nonfinite_event or {},
        case.origin,
        case.evidence.readings,
    )
    bad = case.course.first_bad
    step = event.get("step", int(readings.steps[bad]) if bad is not None else None)
    epoch = event.get("epoch", int(readings.epoch[bad]) if bad is not None else None)
    place: Json = {"step": step, "epoch": epoch, "phase": "train", "layer": event.get("layer")}
    if origin is not None:
        place |= {"row": origin.row, "line": origin.line, "column": origin.column}
        place["layer"] = origin.layer or place["layer"]
        if origin.what == "target":
            place["column"] = origin.column or case.config.target_text
    return place


def _seen(case: Case) -> str:
    place, origin = _where(case), case.origin
    what = "NaN" if origin is None or origin.kind == "nan" else "an infinite value"
    where = f" in the {origin.what}" if origin is not None else ""
    layer = f" of {place['layer']}" if place["layer"] and origin is not None and origin.what != "loss" else ""
    operation = f" (operation {origin.operation})" if origin is not None and origin.operation else ""
    return f"{what[0].upper()}{what[1:]} was first seen at step {place['step']}{where}{layer}{operation}."


def _because(case: Case, cause: str) -> str:
    origin = case.origin
    if cause == "data_cell" and origin is not None:
        return f"It came from the data: {_cell(case, origin)}."
    return {
        "data_cell": "It came from a cell of the data.",
        "domain": "Most likely cause: an operation such as a logarithm, a root or a division got a value "
        "outside its domain.",
        "fp16": f"The number does not fit into {case.config.precision}: the same step, repeated in float32, "
        "was finite.",
        "start": "Most likely cause: the initial weights, which put out numbers too large before any step "
        "was taken.",
        "loss_overflow": "Most likely cause: the loss itself is too large for 32-bit numbers.",
        "step_too_large": "Most likely cause: the steps before it were too large, and the weights ran off.",
        "unknown": "The readings do not show where it came from.",
    }[cause]


def _cell(case: Case, origin: Origin) -> str:
    column = origin.column or (case.config.target_text if origin.what == "target" else None)
    held = {"nan": "no number (NaN)", "inf": "infinity", "-inf": "minus infinity"}.get(
        origin.kind, origin.kind
    )
    if origin.row is None:
        return f"column “{column}” holds {held}"
    line = (
        f"line {origin.line} of the file" if origin.line is not None else f"record {origin.row} of the file"
    )
    count = _cells_affected(case)
    more = f"; {count:,} cells of the training part are so" if count > 1 else ""
    return f"column “{column}”, {line}, holds {held}{more}"


def _cells_affected(case: Case) -> int:
    prepared = case.evidence.prepared
    return 0 if prepared is None else int(prepared.train.nonfinite_by_column().sum())


def _afterwards(case: Case) -> str:
    bad = case.course.bad
    if case.lost:
        return " Training could not go on."
    if not len(bad):
        return ""
    counted = f"{int(bad.sum())} of {len(bad)} steps ({percent(float(bad.mean()))})"
    skipped = case.evidence.readings.skipped
    if len(skipped) == len(bad) and bool(skipped[bad].all()):
        return f" {counted} were skipped for it, and training went on with the others."
    return "" if bad[-1] else f" {counted} were affected; training went on."


def _alternatives(cause: str) -> tuple[str, ...]:
    return {
        "step_too_large": ("an overflow of the loss",),
        "loss_overflow": ("a step that was too large",),
        "fp16": ("numbers that a smaller scale of inputs, target or weights would have kept small",),
        "start": ("inputs that were not scaled", "a module of your own"),
        "unknown": ("an overflow of the loss", "a step that was too large", "a module of your own"),
    }.get(cause, ())


def _remedy(case: Case, cause: str) -> Remedy:
    if cause == "data_cell" and case.config.prepare.missing.kind != "propagate":
        text = (
            "Limit the outlying values and scale the columns: this one is too large for 32-bit numbers as "
            "fed."
        )
        return Remedy(text, combine(remedies.winsorize(case), remedies.mend_scales(case)))
    if cause == "data_cell":
        return Remedy(
            "Correct the cell, or let missing and infinite cells be filled with the column's median.",
            remedies.fill_missing(case),
        )
    if cause == "fp16" and case.cause == "precision":
        text = "Train in bf16, which has the range of float32, or in float32."
        return Remedy(text, set_value(("precision",), "bf16"))
    if cause == "start":
        return Remedy("Use he initialisation.", remedies.he(case))
    if cause == "domain" and case.course.first_bad == 0:
        text = (
            "Keep the operation's input inside its domain, by a clamp or an offset before it: no step had "
            "been taken, so that no change of the config mends it."
        )
        return Remedy(text, {})
    if cause == "domain":
        lr = remedies.calmer_lr(case)
        text = "Keep the operation's input inside its domain; a smaller step may also keep it there."
        return Remedy(text, remedies.set_lr(lr))
    if cause == "loss_overflow" or case.cause in ("inputs", "target"):
        return Remedy("Scale what is fed, and bound the gradient.", remedies.mend_scales(case))
    if case.cause == "outliers":
        return Remedy("Limit the outlying values.", remedies.stabilise(case, remedies.winsorize(case)))
    if case.cause == "init":
        return Remedy("Use he initialisation.", remedies.he(case))
    lr = remedies.calmer_lr(case)
    return Remedy(f"Lower the learning rate to {number(lr)}.", remedies.set_lr(lr))
