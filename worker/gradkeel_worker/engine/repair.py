"""Repairs: on a critical finding the training is run again with the change that the finding proposes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from gradkeel.contract.patch import changes, dotted, merge_patch
from gradkeel.contract.repairs import cut, keeps_estimand, leave_for
from gradkeel.contract.resolve import resolve, to_json
from gradkeel_worker.data import Prepared
from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis import Evidence, diagnose
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.evaluation import evaluate, predict, row_losses, score
from gradkeel_worker.diagnosis.evidence import Metrics
from gradkeel_worker.diagnosis.gain import paired_gain
from gradkeel_worker.diagnosis.remedies import is_accepted
from gradkeel_worker.diagnosis.repaired import closed, with_repairs
from gradkeel_worker.diagnosis.units import affected_units
from gradkeel_worker.engine.checkpoint import checkpoint_of, repairs_of
from gradkeel_worker.engine.keeper import Best
from gradkeel_worker.engine.order import Order, Ready
from gradkeel_worker.engine.repairs import APPLIED, REFUSED, REVERTED, Kept, Repairs, Validated
from gradkeel_worker.engine.run import Hooks, Run

if TYPE_CHECKING:
    from gradkeel_worker.engine.training import Result

Json = dict[str, Any]

CONTINUED = frozenset({"optimizer", "schedule", "clips", "guards"})
"""Blocks of the config that may change while the weights stay; for the others training begins anew."""

_ENDED = ("succeeded", "diverged")
_SHARE = 0.8
"""Part of the progress still left that a training takes which may yet be followed by another."""
_CHANCE = 0.25
"""Share of its steps after which a run that has learnt nothing is looked at closely."""
_LOOKS = 3
"""Times that activations have been looked at by then: so many in a row say that units are lost."""
_LEARNT = 0.97
"""An epoch's mean training loss below this part of the best constant's says that something is learnt."""
_HOPELESS = 10.0
"""Times the loss of the best constant that a run stands at which is looked at closely before that."""
_GOOD = 0.05
"""Gain over the best constant, as a share of its error, that earlier weights need to be gone on from."""
_LEAST_SHARE = 0.02
"""Part of max_seconds below which no further attempt is begun."""


class StaleCheckpoint(Exception):
    """A checkpoint is not one of this attempt: the job begins anew."""


@dataclass(frozen=True)
class Ended:
    """What a training leaves for the next attempt."""

    ending: str
    checkpoint: np.ndarray[Any, np.dtype[np.uint8]]
    best: Best | None
    epochs: list[Json]
    step: int
    fraction: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """One training of a job, through: its result, what its report rests on, and what the next may need."""

    result: Result
    evidence: Evidence
    ended: Ended | None
    chosen: Json | None


class Trains(Protocol):
    """Trains once. ``again``: only what a finished training's checkpoint tells is wanted, as ``status``."""

    def __call__(
        self,
        order: Order,
        hooks: Hooks,
        resume: bytes | bytearray | None,
        repairs: Repairs | None,
        status: str | None = None,
    ) -> Trained: ...


def repaired(order: Order, hooks: Hooks, resume: bytes | bytearray | None, trains: Trains) -> Result:
    """Train, and train again where something critical was found and ``health.repair`` allows it.

    Raises:
        Released, ConfigError, DataError: as ``train``.
    """
    config = order.config if order.asked is None else resolve(order.asked)
    assert not isinstance(config, dict)
    if not config.health.repair:
        return trains(order, hooks, resume, None).result
    submitted = to_json(config) if order.asked is None else order.asked
    repairs = _known(config.health.repair, submitted, resume)
    while True:
        attempt = _attempt(order, repairs)
        try:
            done = trains(attempt, _hooks_of(hooks, repairs), resume, repairs)
        except StaleCheckpoint:
            repairs, resume = Repairs(config.health.repair, submitted, submitted), None
            continue
        resume, order = None, dataclasses.replace(order, chosen=done.chosen)
        if done.result.status not in _ENDED:
            return _stopped(order, repairs, done, trains, hooks, submitted)
        better = _judge(repairs, attempt, done, hooks)
        if not _prepared_next(repairs, config.health.repair_allow, order, done, hooks):
            health = done.result.config.health
            studied = health.counterfactual or health.curvature
            result = _rebuilt(order, repairs, trains, hooks, "") if not better or studied else done.result
            return _told(result, submitted, repairs.entries)


def _known(most: int, submitted: Json, data: bytes | bytearray | None) -> Repairs:
    """The repairs when a checkpoint was made, if there is one that tells of those of this job."""
    repairs = Repairs(most, submitted, submitted)
    state = None if data is None else repairs_of(data)
    if state is not None and state["first"] == submitted:
        repairs.load(state)
    return repairs


def _attempt(order: Order, repairs: Repairs) -> Order:
    if not repairs.begun:
        return order
    return dataclasses.replace(order, asked=repairs.asked, repaired=repairs.reasons)


def _told(result: Result, submitted: Json, entries: list[Json]) -> Result:
    result.readings.repairs = list(entries)
    return dataclasses.replace(result, report=with_repairs(result.report, submitted, entries))


# --------------------------------------------------------------------------------------- around a training


def _hooks_of(hooks: Hooks, repairs: Repairs) -> Hooks:
    """Progress goes on from where the trainings before ended; every event says of which attempt it is."""
    last = repairs.attempts >= repairs.most
    span = (1 - repairs.reached) * (1.0 if last else _SHARE)
    number, begin = repairs.attempts, repairs.reached
    repairs.shown = max(repairs.shown, begin)

    def told(name: str, data: Json) -> None:
        if name == "progress":
            if last or data["phase"] == "train":  # a diagnosis may yet be followed by more training
                repairs.shown = max(repairs.shown, begin + span * (data["fraction"] or 0.0))
            data = data | {"fraction": repairs.shown}
        hooks.emit(name, data | {"attempt": number} if number and name in _NUMBERED else data)

    return dataclasses.replace(hooks, emit=told)


_NUMBERED = ("progress", "epoch", "reading")


def begun(order: Order, ready: Ready, hooks: Hooks, repairs: Repairs) -> Run:
    """The run of an attempt: at its first step, or at the step whose weights it goes on from."""
    start = repairs.start
    if start is None:
        run = order.run(ready, hooks)
    else:
        prepared = dataclasses.replace(ready.prepared, start=start["weights"])
        run = order.run(dataclasses.replace(ready, prepared=prepared), hooks)
        run.step, run.epochs = start["step"], list(start["epochs"])
        run.keeper.offer(start["epoch"], start["step"], start["loss"])
        if run.last_good is not None:
            run.last_good.offer(start["loss"])
    run.repairs = repairs
    if (seconds := ready.config.budget.max_seconds) is not None:
        run.allowance = seconds - repairs.seconds
    return run


def ended(run: Run, ending: str) -> Ended:
    """What is kept of a run that is through, taken before its model is handed out."""
    repairs = run.repairs
    assert repairs is not None
    run.ending = ending
    held, repairs.kept = repairs.kept, None  # a checkpoint of what is past holds nothing of what was before
    try:
        data = np.frombuffer(checkpoint_of(run).to_bytes(), np.uint8)
    finally:
        repairs.kept = held
    fraction = min(1.0, run.step / run.planned_steps)
    return Ended(ending, data, run.keeper.best, list(run.epochs), run.step, fraction, run.seconds)


# ----------------------------------------------------------------------------------- while it is under way


def is_critical(run: Run, evidence: Evidence, allow: tuple[str, ...], order: Order) -> bool:
    """Whether a run is to end here for a repair: it has come to nothing, and a gradient rule says why and how
    to mend it.

    What needs no model is looked at first; the rules see the rest only where that is suspect.
    """
    assert run.repairs is not None
    case = Case(evidence)
    if run.repairs.attempts >= run.repairs.most or not _suspect(run, case):
        return False
    prepared = evidence.prepared
    assert prepared is not None
    model = _best_so_far(run)
    health = dataclasses.replace(evidence.config.health, gradient_check=False)
    evaluation = evaluate(model, prepared, evidence.config.seed, detailed=False)
    config = dataclasses.replace(evidence.config, health=health)
    report = diagnose(dataclasses.replace(evidence, config=config, model=model, evaluation=evaluation))
    serious = [f for f in report["findings"] if f["severity"] == "critical" and f["family"] == "gradient"]
    return bool(serious) and any(
        each["remedy"]["patch"] not in run.repairs.tried
        and _proposal(each, run.repairs.asked, allow, order)[0]
        for each in _candidates(report)
    )


def _suspect(run: Run, case: Case) -> bool:
    """Whether nothing was learnt, and either the loss is far off and does not fall, or a quarter of the run
    is over."""
    losses = [entry["train_loss"] for entry in run.epochs if entry["train_loss"] is not None]
    constant = case.constant_loss
    if constant is None or not losses or min(losses) < _LEARNT * constant:
        return False
    chance = max(_CHANCE * run.planned_steps, 2 * case.config.schedule.warmup_steps)
    if run.step >= chance and _looks(case) > _LOOKS:
        return True
    falling = len(losses) < 2 or losses[-1] < losses[-2]
    return not falling and losses[-1] > _HOPELESS * constant and case.explosion is not None


def _looks(case: Case) -> float:
    """How often the units were looked at; infinite where they are not looked at."""
    series = case.evidence.readings.sparse
    taken = [len(series[name][0]) for name in ("dead_fraction", "saturated_fraction") if name in series]
    return min(taken, default=math.inf)


def _best_so_far(run: Run) -> nn.Module | None:
    """A copy of the model with its best weights; the run goes on with those that it has."""
    if run.keeper.best is None:
        return None
    values = run.parameters.values.clone()
    buffers = [buffer.clone() for buffer in run.model.buffers()]
    run.keeper.restore()
    twin = copy.deepcopy(run.model).cpu().eval()
    with torch.no_grad():
        run.parameters.values.copy_(values)
        for buffer, held in zip(run.model.buffers(), buffers, strict=True):
            buffer.copy_(held)
    return twin


# --------------------------------------------------------------------------------------- what came of it


def _judge(repairs: Repairs, attempt: Order, done: Trained, hooks: Hooks) -> bool:
    """Close the attempt's entry, and keep the better training of the two; says whether it is this one."""
    assert done.ended is not None
    validated = _validated(done)
    repairs.seconds = done.ended.seconds + repairs.seconds
    if repairs.kept is not None:
        found = _compared(repairs.kept.validated, validated, done.result.prepared)
        began = 0 if repairs.start is None else repairs.start["step"]
        entry = closed(
            _last(repairs) | {"steps": done.ended.step - began},
            found.before,
            found.after,
            spared=found.within_chance and not _is_serious(done.result.report),
        )
        _replace_last(repairs, entry)
        _tell(hooks, entry, done.ended.step)
        if entry["status"] == REVERTED:
            return False
    findings = _candidates(done.result.report)
    repairs.kept = Kept(
        asked=repairs.asked,
        reasons=dict(repairs.reasons),
        checkpoint=done.ended.checkpoint,
        findings=findings,
        validated=validated,
        step=done.ended.step,
        ending=done.ended.ending,
        told=_what_failed(done.result.report),
    )
    return True


def _is_serious(report: Json) -> bool:
    return any(finding["severity"] == "critical" for finding in report["findings"])


def _validated(done: Trained) -> Validated | None:
    """Predictions of the returned model for the validation part; None without one."""
    model, prepared = done.result.model, done.result.prepared
    if model is None:
        return None
    part = prepared.validation
    predicted = predict(model, part, dataclasses.replace(prepared, decision=Decision()))
    return Validated(np.array(part.rows, np.int64), np.asarray(predicted, np.float64))


@dataclass(frozen=True)
class Comparison:
    """Two trainings on the validation rows for which both have a prediction."""

    before: Metrics | None
    after: Metrics | None
    within_chance: bool
    """Whether the difference of the leading metric may be one of the rows that were drawn."""


def _compared(before: Validated | None, after: Validated | None, prepared: Prepared) -> Comparison:
    part = prepared.validation
    places = {int(row): place for place, row in enumerate(part.rows.tolist())}
    sound = [each.sound() for each in (before, after) if each is not None]
    rows = [row for row in places if all(row in each for each in sound)]
    if not rows:
        return Comparison(None, None, False)
    actual = part.y_raw[[places[row] for row in rows]]
    predicted = [None if each is None else each.of(rows) for each in (before, after)]
    found = [None if each is None else _numbers(score(prepared, actual, each)) for each in predicted]
    losses = [row_losses(prepared, actual, each) for each in predicted if each is not None]
    root = prepared.classes is None and not prepared.levels
    gain = paired_gain(losses[0], losses[1], root=root) if len(losses) == 2 else None
    return Comparison(found[0], found[1], gain is not None and not gain.certain)


def _numbers(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def _what_failed(report: Json) -> str:
    """The first sentence of what set the verdict."""
    lead = next((f for f in report["findings"] if f["severity"] == "critical"), None)
    if lead is None:
        return str(report["summary"])
    first = str(lead["explanation"]).split(". ")[0].replace(" of what went wrong:", ":")
    return first if first.endswith(".") else first + "."


def _stopped(
    order: Order, repairs: Repairs, done: Trained, trains: Trains, hooks: Hooks, submitted: Json
) -> Result:
    """The job was to end within an attempt: the better model up to now, with a report that tells of all."""
    result, kept = done.result, repairs.kept
    if kept is None:
        return result
    entry = _last(repairs) | {"reason": f"The job ended ({result.status}) while this was tried."}
    if result.model is None and kept.validated is not None:
        entry |= {"status": REVERTED, "reason": f"{entry['reason']} The model of the run before was kept."}
        result = _rebuilt(order, repairs, trains, hooks, result.status)
    _replace_last(repairs, entry)
    return _told(result, submitted, repairs.entries)


def _rebuilt(order: Order, repairs: Repairs, trains: Trains, hooks: Hooks, status: str) -> Result:
    """The result of the training that was kept, drawn up again from its last checkpoint: as ``status``, or as
    it ended where that is empty. Where the job is to end already, nothing asks again whether it is."""
    kept = repairs.kept
    assert kept is not None

    data = bytearray(kept.checkpoint.tobytes())
    again = dataclasses.replace(order, asked=kept.asked, repaired=kept.reasons)
    emit = _hooks_of(hooks, repairs).emit

    def told(name: str, data: Json) -> None:
        if name != "resumed":
            emit(name, data)

    quiet = Hooks(told, hooks.should_stop, None, hooks.deadline)
    if status:
        again = dataclasses.replace(again, interruptible=contextlib.nullcontext)
        quiet = Hooks(told)
    return trains(again, quiet, data, _known(repairs.most, repairs.first, data), status).result


# ------------------------------------------------------------------------------------- what is tried next


def _prepared_next(
    repairs: Repairs, allow: tuple[str, ...], order: Order, done: Trained, hooks: Hooks
) -> bool:
    """Set the next attempt up; False where there is none to make."""
    kept = repairs.kept
    assert kept is not None
    if repairs.attempts >= repairs.most:
        return False
    for finding in kept.findings:
        proposed = finding["remedy"]["patch"]
        if proposed in repairs.tried:
            continue
        repairs.tried.append(proposed)
        if merge_patch(kept.asked, proposed) == kept.asked:
            continue
        patch, reason = _proposal(finding, kept.asked, allow, order)
        if patch and kept.ending == "patience" and _only_longer(kept.asked, patch):
            patch, reason = {}, "The run ended before its epochs were over: more of them change nothing."
        if patch and not _time_left(repairs, done):
            patch, reason = {}, "No time of budget.max_seconds was left for another attempt."
        entry = _entry(repairs, finding, kept, patch or proposed)
        if not patch:
            repairs.entries.append(entry | {"status": REFUSED, "reason": reason})
            _tell(hooks, repairs.entries[-1], kept.step)
            continue
        _set_up(repairs, kept, entry | {"reason": reason}, order, done)
        _tell(hooks, _last(repairs), _last(repairs)["step"])
        return True
    return False


def _set_up(repairs: Repairs, kept: Kept, entry: Json, order: Order, done: Trained) -> None:
    start = _good_start(entry["patch"], order, done) if kept.asked == repairs.asked else None
    entry |= {
        "from": "start" if start is None else "last_good",
        "step": 0 if start is None else start["step"],
    }
    assert done.ended is not None
    last = repairs.attempts >= repairs.most
    span = (1 - repairs.reached) * (1.0 if last else _SHARE)
    repairs.reached += span * done.ended.fraction
    repairs.entries.append(entry)
    repairs.asked = merge_patch(kept.asked, entry["patch"])
    why = f"repair {entry['attempt']} ({entry['rule']}): {entry['text']}"
    repairs.reasons = {**kept.reasons, **dict.fromkeys(changes(entry["patch"]), why)}
    repairs.start = start


def _candidates(report: Json) -> list[Json]:
    """Findings whose change may be tried, the most likely cause first: none where nothing is critical."""
    serious = [finding for finding in report["findings"] if finding["severity"] != "info"]
    critical = {finding["rule"] for finding in serious if finding["severity"] == "critical"}
    if not critical:
        return []
    return [
        finding
        for finding in serious
        if finding["remedy"]["patch"]
        and (finding is serious[0] or finding["rule"] in critical or critical & set(finding["consequences"]))
    ]


def _proposal(finding: Json, asked: Json, allow: tuple[str, ...], order: Order) -> tuple[Json, str]:
    """The part of a finding's change that a repair may make, and what is to be said of it; empty: none."""
    proposed = finding["remedy"]["patch"]
    if keeps_estimand(to_json(resolve(asked)), proposed):
        allow = (*allow, "target")
    patch, left_out = cut(_without_own(proposed, order), allow)
    needed = leave_for(left_out, proposed)
    said = (
        f"{', '.join(left_out)} {'was' if len(left_out) == 1 else 'were'} left as before, for "
        f"health.repair_allow does not name {' or '.join(needed)}."
        if left_out
        else ""
    )
    if not patch:
        return {}, f"{said} The rest is no remedy." if said else "It changes nothing that can be changed."
    if merge_patch(asked, patch) == asked or not is_accepted(asked, patch):
        return {}, f"The config would be as before, or not one that is accepted. {said}".strip()
    return patch, said


def _only_longer(asked: Json, patch: Json) -> bool:
    """Whether a change comes to more epochs and nothing else."""
    before, after = (to_json(resolve(each)) for each in (asked, merge_patch(asked, patch)))
    return {name for name in before if before[name] != after[name]} - {"chosen"} == {"budget"}


def _without_own(patch: Json, order: Order) -> Json:
    """Without what the caller's own model, loss or prepared data stand in place of."""
    own = {"model": order.model is not None, "loss": order.loss is not None}
    given = isinstance(order.data, Prepared)
    own |= {"prepare": given, "columns": given}
    return {key: value for key, value in patch.items() if not own.get(key)}


def _time_left(repairs: Repairs, done: Trained) -> bool:
    seconds = done.result.config.budget.max_seconds
    return seconds is None or seconds - repairs.seconds > _LEAST_SHARE * seconds


def _entry(repairs: Repairs, finding: Json, kept: Kept, patch: Json) -> Json:
    """What the report says of a try that has not begun."""
    proposed, text = finding["remedy"]["patch"], finding["remedy"]["text"]
    if patch != proposed:
        text = f"Make a part of the proposed change: {', '.join(map(dotted, changes(patch)))}."
    return {
        "attempt": sum(each["status"] != REFUSED for each in repairs.entries) + 1,
        "rule": finding["rule"],
        "text": text,
        "patch": patch,
        "proposed": proposed,
        "from": "start",
        "step": 0,
        "stopped_at": kept.step,
        "failed": kept.told,
        "before": None,
        "after": None,
        "metric": None,
        "gained": None,
        "steps": None,
        "status": APPLIED,
        "reason": "",
    }


def _good_start(patch: Json, order: Order, done: Trained) -> Json | None:
    """The best weights of the training before, where they are better than the best constant and the change
    lets them go on; None: from the start."""
    assert done.ended is not None
    best, model = done.ended.best, done.result.model
    if best is None or model is None or order.model is not None or not patch.keys() <= CONTINUED:
        return None
    if not _is_good(done, best) or best.epoch + 1 >= done.result.config.budget.epochs:
        return None
    return {
        "weights": {name: value.numpy().copy() for name, value in model.state_dict().items()},
        "epoch": best.epoch,
        "step": best.step,
        "loss": best.loss,
        "epochs": [entry for entry in done.ended.epochs if entry["epoch"] <= best.epoch],
    }


def _is_good(done: Trained, best: Best) -> bool:
    """Whether the best weights are clearly better than the best constant, and no layer's units were lost by
    then."""
    gain = next(iter(Case(done.evidence).held_out_gains.get("constant", {}).values()), None)
    affected = affected_units(done.result.readings, "dead_fraction")
    lost = any(step <= best.step for _, step, _ in affected)
    return gain is not None and gain.certain and gain.relative >= _GOOD and not lost


def _last(repairs: Repairs) -> Json:
    """The entry of the present attempt."""
    return next(each for each in reversed(repairs.entries) if each["status"] != REFUSED)


def _replace_last(repairs: Repairs, entry: Json) -> None:
    place = max(i for i, each in enumerate(repairs.entries) if each["status"] != REFUSED)
    repairs.entries[place] = entry


def _tell(hooks: Hooks, entry: Json, step: int) -> None:
    hooks.emit("log", {"message": _words(entry), "step": step, "repair": entry})


def _words(entry: Json) -> str:
    named = f"repair {entry['attempt']} ({entry['rule']}): {entry['text']}"
    if entry["status"] == REFUSED:
        return f"not tried, {named} {entry['reason']}"
    if entry["steps"] is not None:
        return f"{named} {entry['reason']}"
    begun = "from the start" if entry["from"] == "start" else f"from the weights of step {entry['step']}"
    return f"{entry['failed']} Now {named} Training again {begun}. {entry['reason']}".strip()
