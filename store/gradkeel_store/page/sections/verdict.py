"""The top of the page: what was trained, how it went, and the figures that matter most."""

from __future__ import annotations

from gradkeel.contract.config import target_text
from gradkeel_store.page.markup import Child, Html, name, shorten, tag
from gradkeel_store.page.sections.scores import headline
from gradkeel_store.page.source import View, mapping, number, text
from gradkeel_store.page.wording import (
    VERDICTS,
    brief,
    count,
    duration,
    figure,
    listed,
    percent,
    prose,
    rule_title,
)

# Each verdict has a shape of its own, so that colour is never the only sign.
_SIGNS = {
    "healthy": "M5 12.5l4.5 4.5L19 7.5",
    "strained": "M12 6v7.5M12 17.2v.3",
    "unstable": "M4 14l4-6 4 9 4-12 4 8",
    "diverged": "M5 18c7 0 9-4 13-13M12 5h6v6",
    "none": "M6 12h12",
    "preflight": "M5 12h11M12 7l5 5-5 5",
}


def verdict_of(view: View) -> str:
    """The verdict; `preflight` for a look before training; `none` where nothing was trained or the word is
    unknown."""
    given = text(view.report.get("verdict"))
    if view.is_preflight:
        return "preflight"
    nothing_ran = not view.steps and not view.entries("findings")
    return "none" if nothing_ran or given not in VERDICTS else given


def header(view: View) -> Html:
    """Title, verdict and key figures."""
    verdict = verdict_of(view)
    word, meaning = VERDICTS[verdict]
    sign = tag(
        "svg",
        tag("path", d=_SIGNS[verdict]),
        viewBox="0 0 24 24",
        width=44,
        height=44,
        aria_hidden="true",
        cls="sign",
    )
    kind = "Before training" if view.is_preflight else "Verdict"
    said = text(view.report.get("summary")).strip()
    words = [
        tag("p", kind, cls="eyebrow"),
        tag("p", word, cls="word"),
        tag("p", prose(said) or meaning, cls="summary"),
    ]
    also = tag("p", _worth(view, verdict), cls="meaning") if _worth(view, verdict) else None
    banner = tag(
        "div", sign, tag("div", words, also), cls="banner", role="group", aria_label=f"{kind}: {word}"
    )
    top = tag(
        "div",
        tag("p", "Gradkeel", tag("span", " gradient-health report"), cls="brand"),
        tag("h1", name(view.title, 140)),
        _facts(view),
    )
    return tag("header", top, banner, key_figures(view))


def _worth(view: View, verdict: str) -> Child:
    """A sound training may still give a poor model: said where a finding about fit or data warns."""
    warns = [one for one in view.entries("findings") if one.get("severity") in ("warning", "critical")]
    if verdict != "healthy" or not warns:
        return None
    return [
        "The verdict is about the numbers of the training, not about what the model is worth: see ",
        tag("a", rule_title(warns[0].get("rule")), href="#findings"),
        ".",
    ]


def _facts(view: View) -> Html | None:
    config, job = view.config, view.job
    lines = [
        ("Target", name(target_text(config["target"])) if config.get("target") else None),
        ("Task", config.get("task")),
        ("Model", _model(mapping(config.get("model")))),
        ("Optimizer", _optimizer(mapping(config.get("optimizer")))),
        ("Job", name(job["id"]) if job.get("id") else None),
        ("State", job.get("state")),
        ("Ended", _moment(job.get("ended_at"))),
    ]
    given = [tag("div", tag("dt", word), tag("dd", value)) for word, value in lines if value]
    return tag("dl", given, cls="facts") if given else None


def _model(model: dict[str, object]) -> str | None:
    widths = model.get("widths")
    shape = "-".join(str(width) for width in widths[:12]) if isinstance(widths, list | tuple) else ""
    return f"{model['kind']} {shape}".strip() if model.get("kind") else None


def _optimizer(optimizer: dict[str, object]) -> str | None:
    lr = number(optimizer.get("lr"))
    return (
        f"{optimizer['kind']}{f', lr {brief(lr)}' if lr is not None else ''}"
        if optimizer.get("kind")
        else None
    )


def _moment(stamp: object) -> str | None:
    return text(stamp)[:16].replace("T", " ") + " UTC" if text(stamp) else None


def key_figures(view: View) -> Html | None:
    """A strip of at most five figures, each with what it means in a few words."""
    boxes = [
        tag("div", tag("dt", term), tag("dd", tag("b", value), tag("span", more)))
        for term, value, more in figures_of(view)
    ]
    return tag("dl", boxes, cls="figures") if boxes else None


Figure = tuple[str, str, str]
"""What it is, its value, and what that means in a few words."""


def figures_of(view: View) -> list[Figure]:
    """The figures that matter most, as far as there are any."""
    if view.is_preflight:
        return []
    found = [figure_of(view) for figure_of in (_quality, _length, _clipped, _checked, _cost)]
    return [one for one in found if one is not None]


def _quality(view: View) -> Figure | None:
    best = headline(view)
    if best is None:
        return None
    term = f"{best.words}, {best.part} part"
    if best.constant is None:
        return term, figure(best.model), "no baseline to compare with"
    if best.gain is None:
        return term, figure(best.model), f"constant baseline: {figure(best.constant)}"
    way = "below" if best.gain >= 0 else "above"
    return term, figure(best.model), f"{percent(abs(best.gain))} {way} the constant baseline"


def _length(view: View) -> Figure | None:
    fit = view.part("fit")
    epochs, steps = number(fit.get("epochs")), view.steps
    if not steps:
        return "Training", "0 steps", "it ended before the first step"
    length = count(int(steps[-1]) + (1 if steps[0] == 0 else 0), "step")
    took = f"in {duration(fit.get('seconds'))}" if number(fit.get("seconds")) is not None else ""
    best = number(fit.get("best_epoch"))
    more = [
        count(int(epochs), "epoch") if epochs else "",
        f"best after epoch {figure(best + 1)}" if best is not None else "",
        took,
    ]
    return "Training", length, ", ".join(part for part in more if part)


def _clipped(view: View) -> Figure | None:
    clips = view.entries("clipping")
    fractions = [fraction for clip in clips if (fraction := number(clip.get("fraction"))) is not None]
    if not fractions:
        return None
    kinds = listed([shorten(clip.get("kind", ""), 30) for clip in clips[:4]])
    return "Steps clipped", percent(max(fractions)), f"by the {kinds} clip"


def _checked(view: View) -> Figure | None:
    states = [
        mapping(entry).get("status")
        for entry in mapping(view.part("gradient_check").get("parameters")).values()
    ]
    if not states:
        return None
    failed = states.count("fail")
    words = "disagree with finite differences" if failed else "agree with finite differences"
    amount = failed or states.count("pass")
    return "Gradient check", f"{amount} of {len(states)}", f"parameter tensors {words}"


def _cost(view: View) -> Figure | None:
    fraction = number(view.part("cost").get("monitoring_fraction"))
    return (
        ("Cost of watching", percent(fraction), "of the training time, measured")
        if fraction is not None
        else None
    )
