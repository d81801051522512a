"""What a report says of the repairs that were tried before the training it is about. numpy and torch free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradkeel.contract.patch import difference, merge_patch
from gradkeel_worker.diagnosis.words import METRICS, number, plural

Json = dict[str, Any]
Metrics = Mapping[str, Any]

_KEPT, _UNDONE, _REFUSED = "applied", "reverted", "refused"

LEADING = ("scaled_rmse", "pinball", "log_loss", "rmse")
"""The metric that two runs are compared by, the first of these that the task has; lower is better."""


def asked_after(submitted: Json, entries: Sequence[Json]) -> Json:
    """The submitted config with every repair in it that was not undone or refused."""
    for entry in entries:
        if entry["status"] == _KEPT:
            submitted = merge_patch(submitted, entry["patch"])
    return submitted


def with_repairs(report: Json, submitted: Json, entries: Sequence[Json]) -> Json:
    """The report of the training that is returned, with what was tried before it.

    Its patches are made against that training's config; here they come to be against ``submitted``, as every
    patch is: they hold the repairs that were applied.
    """
    if not entries:
        return report
    asked = asked_after(submitted, entries)
    return report | {
        "summary": " ".join([*_told(entries), report["summary"]]).strip(),
        "findings": [_of_submitted(one, submitted, asked, entries) for one in report["findings"]],
        "interventions": [*map(_intervention, _done(entries)), *report["interventions"]],
        "repair": list(entries),
    }


def tried(entry: Json) -> Json:
    """What a finding's remedy says of its having been tried."""
    return {
        "attempt": entry["attempt"],
        "status": entry["status"],
        "before": entry["before"],
        "after": entry["after"],
        "gained": entry["gained"],
        "steps": entry["steps"],
    }


def _done(entries: Sequence[Json]) -> list[Json]:
    return [entry for entry in entries if entry["status"] != _REFUSED]


def _of_submitted(finding: Json, submitted: Json, asked: Json, entries: Sequence[Json]) -> Json:
    remedy = finding["remedy"]
    if not remedy["patch"]:
        return finding
    before = next((e for e in _done(entries) if remedy["patch"] in (e["patch"], e["proposed"])), None)
    patch = difference(submitted, merge_patch(asked, remedy["patch"]))
    text = remedy["text"] if asked == submitted else f"{remedy['text']} (The patch holds the repairs too.)"
    return finding | {
        "remedy": {
            "text": text,
            "patch": patch,
            "tried": remedy["tried"] if before is None else tried(before),
        }
    }


def _intervention(entry: Json) -> Json:
    begun = "from its start" if entry["from"] == "start" else f"from the weights of step {entry['step']}"
    undone = "" if entry["status"] == _KEPT else "; it was undone"
    return {
        "step": entry["stopped_at"],
        "action": "repair",
        "reason": f"{entry['rule']}: {entry['failed']}",
        "effect": f"trained again {begun} with this change: {entry['text']}{undone}",
    }


# ------------------------------------------------------------------------------------------------ summary


def _told(entries: Sequence[Json]) -> list[str]:
    """The repairs in a few sentences, for the report's first paragraph."""
    applied = [entry for entry in entries if entry["status"] == _KEPT]
    undone = [entry for entry in entries if entry["status"] == _UNDONE]
    refused = [entry for entry in entries if entry["status"] == _REFUSED]
    found = [f"In the first run something critical was found. {entries[0]['failed']}"]
    found += [_rerun(entry) for entry in applied]
    if undone:
        found.append(
            f"{plural(len(undone), 'other change' if applied else 'change')} "
            f"{'was' if len(undone) == 1 else 'were'} tried and undone, being no better."
        )
    if refused:
        found.append(f"A change was not tried: {refused[0]['reason']}")
    return [*found, "Of the run that is returned:"]


def _rerun(entry: Json) -> str:
    steps = "" if entry["steps"] is None else f", {plural(entry['steps'], 'step')}"
    return f"Re-run with this change (same seed{steps}): {_sentence(entry['text'])} {compared(entry)}".strip()


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def compared(entry: Json) -> str:
    """Before and after, on the same validation rows, as a sentence; empty where neither is known."""
    name = entry["metric"]
    before, after = ((entry[when] or {}).get(name) for when in ("before", "after"))
    if before is None and after is None:
        return ""
    label = METRICS.get(str(name), str(name))
    then = "the run before left no usable model" if before is None else f"{number(before)} before"
    if after is None:
        return f"It left no usable model; {then}."
    return f"On the validation part its {label} is {number(after)}; {then}."


def closed(entry: Json, before: Metrics | None, after: Metrics | None, *, spared: bool) -> Json:
    """The entry of an attempt that is through, with what it gained. The metrics are of the same rows.

    What is no better is undone; not where it is ``spared``: worse by what may be chance at most, and sound
    where the run before was not.
    """
    name = next((each for each in LEADING if each in (after or before or {})), None)
    then, now = ((each or {}).get(str(name)) for each in (before, after))
    worse = then is not None and (now is None or now >= then)
    filled = entry | {
        "before": None if before is None else dict(before),
        "after": None if after is None else dict(after),
        "metric": name,
        "gained": None if then is None or now is None else then - now,
        "status": _UNDONE if worse and not spared else _KEPT,
    }
    return filled | {"reason": _reason(filled, spared=worse and spared)}


def _reason(entry: Json, *, spared: bool) -> str:
    said = compared(entry)
    if entry["status"] == _UNDONE:
        return f"Undone, for it is no better. {said}"
    if spared and entry["gained"]:
        return (
            f"Kept: nothing critical is left, and the difference may be chance (a 95 % interval over rows "
            f"holds 0). {said}"
        )
    if said:
        return f"Kept. {said}"
    return "Kept to build on, though this run left no usable model either."
