"""What came of a job: the document of ``--json``, the words for people, the files of ``--out``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text

from gradkeel.cli.screen import Screen
from gradkeel.client import Client
from gradkeel.contract.states import JobState
from gradkeel.errors import GradkeelError
from gradkeel.reports import Finding, Report
from gradkeel.resources.jobs import Job
from gradkeel.resources.models import Model

Json = dict[str, Any]

VERDICT_STYLES = {
    "healthy": "bold green",
    "strained": "bold yellow",
    "unstable": "bold red",
    "diverged": "bold red",
}
SEVERITY_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
ROLES = {
    "safety_net": "a safety net",
    "step_size_limiter": "it sets the size of the steps",
    "batch_reweighter": "with this optimizer it changes the weight of batches more than the steps",
}
SHOWN_COLUMNS = 10
PLACES = ("layer", "parameter", "step", "epoch", "row", "line", "column", "phase")


@dataclass(frozen=True)
class Outcome:
    """An ended job with its report, and its model where there is one."""

    job: Job
    report: Report
    model: Model | None
    report_path: Path | None = None

    @property
    def status(self) -> int:
        """The exit status: 0 where the job succeeded."""
        return 0 if self.job.state == JobState.SUCCEEDED else 1

    def document(self) -> Json:
        """What ``gradkeel train --json`` prints."""
        return {
            "job": self.job.raw,
            "model": None if self.model is None else self.model.raw,
            "metrics": self.job.metrics,
            "verdict": self.report.raw["verdict"] if self.job.verdict is None else str(self.job.verdict),
            "findings": self.report.raw["findings"],
            "report_path": None if self.report_path is None else str(self.report_path),
            "seconds": self.job.seconds,
        }


def no_job(problem: Mapping[str, Any] | None) -> Json:
    """The document where no job came to be."""
    empty = dict.fromkeys(("job", "model", "metrics", "verdict", "report_path", "seconds"))
    return {**empty, "findings": [], "error": None if problem is None else dict(problem)}


def detached(job: Job) -> Json:
    """The document of a job that was not waited for."""
    return {key: value for key, value in no_job(None).items() if key != "error"} | {"job": job.raw}


def problem_of(error: GradkeelError) -> Json:
    """An error as a problem document; errors that no service sent get one of the same form."""
    if error.problem is not None:
        return error.problem
    return {"type": "about:blank", "title": type(error).__name__, "detail": error.message}


def outcome_of(client: Client, job: Job) -> Outcome:
    """Fetch what an ended job left."""
    model = None if job.model_id is None else client.models.get(job.model_id)
    return Outcome(job, job.report(), model)


# ------------------------------------------------------------------------------------------ files


def save(outcome: Outcome, folder: Path) -> Outcome:
    """Write model, report and test predictions into ``folder``; what the job does not have is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(outcome.job.report_html(), "utf-8")
    (folder / "report.json").write_text(json.dumps(outcome.report.raw, ensure_ascii=False) + "\n", "utf-8")
    if outcome.model is not None:
        outcome.model.download(folder / "model.gradkeel")
        _save_predictions(outcome.job, folder / "predictions.csv")
    return Outcome(outcome.job, outcome.report, outcome.model, page)


def _save_predictions(job: Job, path: Path) -> None:
    text = job.predictions()
    if text:
        path.write_text(text, "utf-8")


# ------------------------------------------------------------------------------------------ words


def show(screen: Screen, outcome: Outcome) -> None:
    """Verdict, findings, metrics beside the baselines, and what can be done next."""
    _show_state(screen, outcome.job)
    show_report(screen, outcome.report)
    show_metrics(screen, outcome.job.metrics)
    show_folds(screen, (outcome.report["fit"] or {}).get("cross_validation"))
    show_details(screen, outcome.report)
    _show_next(screen, outcome)


def _show_state(screen: Screen, job: Job) -> None:
    seconds = "" if job.seconds is None else f" after {job.seconds:.1f} s"
    screen.say(f"Job {job.id} {job.state}{seconds}.")
    if job.error is not None:
        screen.say(f"  {job.error.get('code')}: {job.error.get('message')}", style="red")


def show_report(screen: Screen, report: Report) -> None:
    screen.say()
    verdict = "none, for nothing was trained" if report.verdict is None else str(report.verdict)
    screen.say(Text.assemble("Verdict: ", (verdict, VERDICT_STYLES.get(verdict, "bold"))))
    screen.say(Padding(Text(report.summary), (0, 0, 0, 2), expand=False))
    for clip in filter(None, map(clipping_line, report["clipping"])):
        screen.say(f"  {clip}")
    for index, finding in enumerate(report.findings, 1):
        _show_finding(screen, index, finding)
    _show_counterfactual(screen, report)
    _show_curvature(screen, report)


def _show_curvature(screen: Screen, report: Report) -> None:
    """How sharply the loss bends, and the learning rates that allows."""
    told = (report.curvature or {}).get("summary")
    if told is not None:
        screen.say()
        screen.say("Curvature against the learning rate:")
        screen.say(Padding(Text(told), (0, 0, 0, 2), expand=False))


def _show_counterfactual(screen: Screen, report: Report) -> None:
    """The same training without its stabilizers, and that it began alike in every arm."""
    found = report.counterfactual
    if found is None or found.get("summary") is None:
        return
    screen.say()
    screen.say("Without its stabilizers:")
    screen.say(Padding(Text(found["summary"]), (0, 0, 0, 2), expand=False))
    for words, key in (("first weights", "init_digest"), ("batch order  ", "batch_order_digest")):
        screen.say(f"  {words} in every arm run: sha256 {found[key]}")


def clipping_line(clip: Mapping[str, Any]) -> str | None:
    """How often a clip held a gradient back; None where it never did."""
    if not clip.get("fired_steps"):
        return None
    share = 100 * float(clip.get("fraction") or 0.0)
    role = str(clip.get("role", ""))
    steps = "1 step" if clip["fired_steps"] == 1 else f"{clip['fired_steps']:,} steps"
    return f"The {clip['kind']} clip fired at {steps} ({share:.1f} %): {ROLES.get(role, role)}."


def _show_finding(screen: Screen, index: int, finding: Finding) -> None:
    screen.say()
    style = SEVERITY_STYLES.get(finding.severity, "")
    head = Text.assemble(f"{index}. ", (finding.severity, style), "  ", (finding.rule, "bold"))
    head.append(f"  ({finding.family}; confidence {_confidence(finding.raw.get('confidence'))})", "dim")
    screen.say(head)
    for line in _finding_lines(finding):
        screen.say(Padding(Text(line), (0, 0, 0, 3), expand=False))
    if finding.patch:
        screen.say(f"   patch: {json.dumps(finding.patch, ensure_ascii=False)}", style="bold")


def _finding_lines(finding: Finding) -> list[str]:
    where = dict(finding.where)
    if isinstance(where.get("epoch"), int):
        where["epoch"] += 1  # people count epochs from one
    place = ", ".join(f"{key} {where[key]}" for key in PLACES if where.get(key) is not None)
    lines = [f"at {place}"] if place else []
    lines.append(finding.explanation)
    if finding.also_consistent_with:
        lines.append(f"also consistent with: {'; '.join(finding.also_consistent_with)}")
    if finding.remedy.get("text"):
        lines.append(f"remedy: {finding.remedy['text']}")
    return lines


def _confidence(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def show_metrics(screen: Screen, metrics: Mapping[str, Any] | None) -> None:
    """A table: the model on the test and validation parts, and the baselines on the test part."""
    rows = metric_rows(metrics or {})
    if not rows:
        return
    names = list(dict.fromkeys(name for _, values in rows for name in values))
    screen.say()
    screen.table(
        ["metrics", *names], [[label, *(values.get(name) for name in names)] for label, values in rows]
    )


def show_folds(screen: Screen, found: Mapping[str, Any] | None) -> None:
    """A table: each fold's model on the rows that it never saw, then mean and standard deviation."""
    if not found:
        return
    names = list(found["metrics"]) or ["metrics"]
    rows = [[f"fold {one['fold']}", *_cells(one["metrics"], names)] for one in found["per_fold"]]
    spreads = [("model", found["metrics"]), *found["baselines"].items()]
    for which, statistic in (("mean", "mean"), ("standard deviation", "sd")):
        rows += [[f"{name}, {which}", *_cells(spread, names, statistic)] for name, spread in spreads]
    screen.say()
    screen.table(["rows held out", *names], rows)
    if found["failed"]:
        screen.say(f"Training diverged in fold {', '.join(map(str, found['failed']))}: no mean counts it.")


def _cells(values: Mapping[str, Any] | None, names: Sequence[str], key: str | None = None) -> list[Any]:
    found = [(values or {}).get(name) for name in names]
    return found if key is None else [None if each is None else each[key] for each in found]


def show_details(screen: Screen, report: Report) -> None:
    """What the predictions rest on, and a classifier's temperature and threshold."""
    if report.importance:
        measured = report["fit"]["importance"]
        screen.say()
        screen.table(["column", f"{measured['metric']} when shuffled", "±"], importance_rows(report))
        more = len(report.importance) - SHOWN_COLUMNS
        if more > 0:
            screen.say(f"and {more} more columns in the report")
    for line in decision_lines(report["fit"] or {}):
        screen.say()
        screen.say(line)


def importance_rows(report: Report) -> list[list[Any]]:
    """The most important columns: name, gain of the error when shuffled, its standard deviation."""
    rows = [one for one in report.importance if one.get("mean") is not None][:SHOWN_COLUMNS]
    return [[one["column"], one["mean"], one["sd"]] for one in rows]


def decision_lines(fit: Mapping[str, Any]) -> list[str]:
    """One line each on the calibration and on the threshold, where there are such."""
    lines = []
    calibration, threshold = fit.get("calibration") or {}, fit.get("threshold") or {}
    if calibration.get("temperature") is not None:
        used = "applied" if calibration["applied"] else "not applied"
        lines.append(
            f"Temperature {calibration['temperature']:.3g} ({used}): held-out validation log loss "
            f"{calibration['log_loss_before']:.4g} without, {calibration['log_loss_after']:.4g} with it."
        )
    named = {one["kind"]: one["threshold"] for one in threshold.get("choices") or ()}
    if named:
        listed = ", ".join(f"{kind} {value:.3g}" for kind, value in named.items())
        lines.append(f"Thresholds by the validation part: {listed}; in use: {threshold['applied']}.")
    return lines


def metric_rows(metrics: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Label and numbers of each line of the table of metrics."""
    parts = [(f"model, {part}", metrics.get(part)) for part in ("test", "validation")]
    named = (metrics.get("baselines") or {}).items()
    parts += [(f"{name}, test", (values or {}).get("test", values)) for name, values in named]
    return [(label, numbers(values)) for label, values in parts if values]


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that are single numbers."""
    return {name: value for name, value in values.items() if value is None or isinstance(value, int | float)}


def _show_next(screen: Screen, outcome: Outcome) -> None:
    screen.say()
    if outcome.report_path is not None:
        screen.say(f"Report: {outcome.report_path}")
    if outcome.model is not None:
        screen.say(f"Model:  {outcome.model.id}")
    remedy = outcome.report.remedy
    if remedy is not None and remedy.severity != "info":
        screen.say(f"Run again with the patch for {remedy.rule}: gradkeel train --apply {outcome.job.id}")


def table_of(documents: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[list[Any]]:
    """Rows for a table from documents."""
    return [[document.get(key) for key in keys] for document in documents]
