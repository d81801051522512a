"""Numbers and names as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from gradkeel_store.page.markup import Html, escape, name, shorten, tag
from gradkeel_store.page.source import mapping, number, text

NOTHING = "–"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_POWER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)e([+-]?)0*(\d{1,3})(?![\w.]*\w)")
_NEGATIVE = re.compile(r"(?<![\w.,\-”])-(?=\d)")

VERDICTS: dict[str, tuple[str, str]] = {
    "healthy": (
        "Healthy",
        "Training was numerically sound: no rule about gradients had anything to warn of.",
    ),
    "strained": (
        "Strained",
        "Training finished, but something pulled at it. The model is usable; read on before you rely on it.",
    ),
    "unstable": (
        "Unstable",
        (
            "Training went wrong in a way that makes its result doubtful. Apply the change below and "
            "run it again."
        ),
    ),
    "diverged": (
        "Diverged",
        (
            "The numbers of this training ran away, or no usable model was left. The cause and the "
            "change that mends it follow."
        ),
    ),
    "preflight": ("Preflight", "Nothing was trained: this is a look at what a training could use."),
    "none": ("No verdict", "Nothing was trained, so there is nothing to judge."),
}

SEVERITIES = {"critical": "Critical", "warning": "Warning", "info": "Note"}

RULES = {
    "non_finite": "A number stopped being a number",
    "exploding_gradient": "Exploding gradient",
    "vanishing_gradient": "Vanishing gradient",
    "dead_units": "Dead units",
    "saturated_activation": "Saturated activations",
    "clipping_dominates": "Clipping fires often",
    "lr_too_high": "Learning rate too high",
    "lr_too_low": "Learning rate too low",
    "feature_scale": "Columns on an unsuitable scale",
    "target_scale": "Target on an unsuitable scale",
    "outliers": "Outlier rows carry the training",
    "no_better_than_baseline": "No better than a simple baseline",
    "biased_predictions": "Predictions are biased",
    "loss_not_decreasing": "The loss does not go down",
    "oscillation": "The loss oscillates",
    "spike": "Spikes in the loss",
    "overfit": "Overfitting",
    "leak_suspect": "A column may give the answer away",
    "data_quality": "Quality of the data",
    "poor_initialisation": "Poor initialisation",
    "gradient_mismatch": "A gradient is computed wrongly",
    "noisy_gradient": "Noisy gradient",
}

PHASES = {
    "prepare": "during preparation",
    "train": "during training",
    "diagnose": "during diagnosis",
    "export": "during export",
}

METRICS: dict[str, tuple[str, str]] = {
    # name: (words, which way is better)
    "rmse": ("RMSE", "lower"),
    "mae": ("Mean absolute error", "lower"),
    "mase": ("Mean absolute scaled error", "lower"),
    "r2": ("R²", "higher"),
    "scaled_rmse": ("RMSE in standard deviations of each target", "lower"),
    "scaled_mae": ("Mean absolute error in standard deviations of each target", "lower"),
    "pinball": ("Pinball loss", "lower"),
    "interval_coverage": ("Coverage of the outermost quantiles", ""),
    "interval_width": ("Width between the outermost quantiles", ""),
    "accuracy": ("Accuracy", "higher"),
    "log_loss": ("Log loss", "lower"),
    "auc": ("AUC", "higher"),
    "average_precision": ("Average precision", "higher"),
    "f1": ("F1", "higher"),
}


_SHORT = {"lr": "learning rate", "rms": "RMS", "std": "standard deviation", "nonfinite": "non-finite"}


def rule_title(rule: Any) -> str:
    """What a rule's finding is called on the page."""
    known = text(rule)
    return RULES.get(known) or sentence_case(known) or "Finding"


def sentence_case(key: str) -> str:
    """A JSON key as words: `relative_error` → `Relative error`."""
    plain = " ".join(_SHORT.get(word, word) for word in key.replace("_", " ").split())
    words = shorten(plain, 80)
    return words[:1].upper() + words[1:]


def sentence(words: str, limit: int = 400) -> str:
    """A report's sentence for a table or list: with a capital, its numbers as people write them."""
    said = shorten(prose(words), limit)
    return said[:1].upper() + said[1:]


def figure(value: Any, digits: int = 4) -> str:
    """A number to `digits` significant digits; very large and very small ones as powers of ten."""
    real = number(value)
    if real is None:
        return NOTHING
    rounded = float(f"{real:.{digits - 1}e}")
    size = abs(rounded)
    if size and not 1e-4 <= size < 1e7:
        return _power(real, min(digits, 3))
    if real == int(real):
        return f"{int(real):,}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{real:,.{decimals}f}".replace("-", "−")


def brief(value: Any) -> str:
    """A number for a tick or a setting: no zeros that say nothing."""
    words = figure(value)
    return words.rstrip("0").rstrip(".") if "." in words and "×" not in words else words


def _power(real: float, digits: int) -> str:
    mantissa, exponent = f"{real:.{digits - 1}e}".split("e")
    tidy = mantissa.rstrip("0").rstrip(".").replace("-", "−")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if tidy == "1" else f"{tidy}×{power}"


_PLAIN = {-3: "0.001", -2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100", 3: "1,000"}


def decade(exponent: int, *, plain: bool = True) -> str:
    """10 to a power, as an axis names it: small ones, where ``plain``, as plain numbers."""
    known = _PLAIN.get(exponent) if plain else None
    return known or "10" + str(exponent).translate(_SUPERSCRIPT)


def exact(value: Any, digits: int = 4) -> Html:
    """A number for reading, nine digits of it for machines and, by the page's script, as a tooltip."""
    return _data(value, figure(value, digits))


def setting(value: Any) -> Html:
    """The same of a number whose last zeros say nothing: 0.01, not 0.01000."""
    return _data(value, brief(value))


def _data(value: Any, words: str) -> Html:
    if number(value) is None:
        return tag("span", NOTHING, cls="none")
    return tag("data", words, value=f"{value:.9g}")


def percent(fraction: Any) -> str:
    """A fraction of one as a percentage."""
    real = number(fraction)
    if real is None:
        return NOTHING
    hundredths = real * 100
    if hundredths and abs(hundredths) < 0.1:
        return "less than 0.1\u00a0%"
    return f"{hundredths:.1f}".removesuffix(".0").replace("-", "−") + "\u00a0%"


def prose(words: str) -> str:
    """A report's sentence with its numbers as people write them: 2.1e+14 as 2.1×10¹⁴, -3 as −3."""
    return _NEGATIVE.sub("−", _POWER.sub(_as_power, words))


def _as_power(found: re.Match[str]) -> str:
    mantissa, sign, digits = found.groups()
    power = decade(int(digits) * (-1 if sign == "-" else 1), plain=False)
    return power if mantissa == "1" else f"{mantissa}×{power}"


def duration(seconds: Any) -> str:
    """Seconds as a person says them."""
    real = number(seconds)
    if real is None:
        return NOTHING
    if real < 1:
        return f"{real * 1000:.0f} ms"
    if real < 120:
        return f"{figure(real, 3)} s"
    minutes, rest = divmod(round(real), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def listed(parts: Iterable[str], last_word: str = "and") -> str:
    """`a, b and c`."""
    words = [part for part in parts if part]
    return (
        words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last_word} {words[-1]}" if words else ""
    )


def whole(value: Any) -> str:
    """A counter (step, row, line) without digits it does not have."""
    real = number(value)
    return figure(real) if real is not None else shorten(value, 40)


def place(where: Any) -> list[Html]:
    """A finding's place as a list of short parts, the most general first."""
    spot = mapping(where)
    named = [("layer", "layer"), ("parameter", "parameter"), ("column", "column")]
    counted = [("step", "step"), ("row", "row"), ("line", "line")]
    epoch = number(spot.get("epoch"))
    phase = text(spot.get("phase"))
    parts = [escape(PHASES.get(phase) or ["during ", name(phase)])] if phase else []
    parts += [escape([f"{word} ", name(spot[key])]) for key, word in named if spot.get(key) is not None]
    parts += [escape(f"epoch {figure(epoch + 1)}")] if epoch is not None else []  # people count from one
    parts += [escape([f"{word} ", whole(spot[key])]) for key, word in counted if spot.get(key) is not None]
    return parts
