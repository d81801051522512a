"""The figures of docs/diagnosis.md: how many seeded faults were found, named first, and mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gradkeel.contract.report import RULES
from gradkeel.contract.states import Family
from gradkeel_worker.diagnosis.reliability import wilson
from seeded.kinds import FAULTS, TUNED_SEEDS, Fault
from seeded.results import TWIN, Line, Said
from seeded.tables import OWN, PUBLIC

NEAR = 1.05
"""Factor on the healthy twin's error within which a repaired run has to end."""
_CAUSED = ("non_finite", "exploding_gradient")
_TUNED = {source.name for source in (*OWN, *PUBLIC) if source.tuned}


def names_fault(said: Said, fault: Fault) -> bool:
    """Whether a finding names the fault: by its rule, and the cause, issue or place that it has to tell."""
    if said.rule not in fault.causes or not (said.serious or fault.informs):
        return False
    if said.rule == "data_quality" and said.cause != fault.issue:
        return False
    if fault.cause and said.rule in _CAUSED and said.cause not in fault.cause:
        return False
    return said.placed or not fault.placed


def found(line: Line) -> bool:
    """Whether the report names the seeded fault anywhere."""
    return any(names_fault(said, FAULTS[line.kind]) for said in line.said)


def first(line: Line) -> bool:
    """Whether the most likely cause, the first finding that is more than information, is the seeded one."""
    fault = FAULTS[line.kind]
    lead = next((said for said in line.said if said.serious or names_fault(said, fault)), None)
    return lead is not None and names_fault(lead, fault)


def right(said: Said, line: Line) -> bool:
    """Whether a finding is true of its run: it names the fault, or what the fault is known to bring about."""
    if line.healthy:
        return False
    fault = FAULTS[line.kind]
    return names_fault(said, fault) or said.rule in fault.effects


def false_alarms(line: Line) -> list[str]:
    """Rules of the gradient and fit families that said warning or worse."""
    return [said.rule for said in line.said if said.serious and RULES[said.rule] is not Family.DATA]


def is_held_out(line: Line) -> bool:
    return line.set not in _TUNED or line.seed not in TUNED_SEEDS


def mended(line: Line, twins: dict[tuple[str, str, int], float]) -> bool | None:
    """Whether a run with repair ended within NEAR of its healthy twin; None where there is no such twin."""
    twin = twins.get((line.set, line.optimizer, line.seed))
    if twin is None:
        return None
    return line.metric is not None and line.metric <= NEAR * twin


# ------------------------------------------------------------------------------------------------- tables


def page(lines: Sequence[Line]) -> str:
    """All tables as Markdown."""
    sound = [line for line in lines if line.error is None]
    seeded = [line for line in sound if not line.healthy and not line.repair]
    parts = [
        _pooled(seeded, [line for line in sound if line.healthy]),
        _by_kind(seeded),
        _by_rule(seeded, [line for line in sound if line.healthy]),
        _healthy([line for line in sound if line.healthy]),
        _repairs(sound),
        _failed(lines),
    ]
    return "\n\n".join(part for part in parts if part)


def share(hits: int, count: int) -> str:
    """A share with its 95 % interval, as text."""
    if not count:
        return "–"
    low, high = wilson(hits, count)
    return f"{hits}/{count} = {hits / count:.3f} ({low:.2f}–{high:.2f})"


def _share_of(lines: Iterable[Line], hit: Callable[[Line], bool]) -> str:
    hits = [hit(line) for line in lines]
    return share(sum(hits), len(hits))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pooled(seeded: Sequence[Line], well: Sequence[Line]) -> str:
    parts = {
        "tuned": [line for line in seeded if not is_held_out(line)],
        "held out": [line for line in seeded if is_held_out(line)],
        "all": list(seeded),
    }
    rows = [(name, _share_of(each, found), _share_of(each, first)) for name, each in parts.items()]
    alarms = _share_of(well, lambda line: bool(false_alarms(line)))
    table = _table(("seeded faults", "named (recall)", "named first"), rows)
    return f"{table}\n\nFalse alarms on healthy runs: {alarms}."


def _by_kind(seeded: Sequence[Line]) -> str:
    rows = []
    for name in FAULTS:
        own = [line for line in seeded if line.kind == name]
        held = [line for line in own if is_held_out(line)]
        if own:
            tried = _share_of(own, found), _share_of(own, first), _share_of(held, first), _instead(own)
            rows.append((name, _codes(FAULTS[name].causes), *tried))
    return _table(("fault", "rule", "named", "named first", "held out: first", "named first instead"), rows)


def _instead(lines: Iterable[Line]) -> str:
    """What stood first where the fault did not, with how often."""
    leads = Counter(_lead(line) for line in lines if not first(line))
    return ", ".join(f"{rule} {count}" for rule, count in leads.most_common(3)) or "–"


def _lead(line: Line) -> str:
    lead = next((said for said in line.said if said.serious), None)
    return "nothing" if lead is None else f"`{lead.rule}`"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _by_rule(seeded: Sequence[Line], well: Sequence[Line]) -> str:
    rows = []
    for rule in RULES:
        own = [line for line in seeded if FAULTS[line.kind].causes[0] == rule]
        verdicts = verdicts_of(rule, [*seeded, *well])
        if own or verdicts:
            precision = share(sum(verdicts), len(verdicts))
            rows.append((f"`{rule}`", _share_of(own, found), precision, _confused(rule, [*seeded, *well])))
    return _table(("rule", "recall on its faults", "precision", "wrong on"), rows)


def precision(lines: Iterable[Line]) -> dict[str, tuple[int, int]]:
    """Rule → (warnings that were right, warnings): the table of diagnosis/confidence.py."""
    plain = [line for line in lines if line.error is None and not line.repair]
    verdicts = {rule: verdicts_of(rule, plain) for rule in RULES if rule != "data_quality"}
    return {rule: (sum(each), len(each)) for rule, each in verdicts.items() if each}


def verdicts_of(rule: str, lines: Iterable[Line]) -> list[bool]:
    """Whether each warning of a rule was right, over all runs."""
    return [right(said, line) for line in lines for said in line.said if _warns(said, rule, line)]


def _warns(said: Said, rule: str, line: Line) -> bool:
    informs = not line.healthy and FAULTS[line.kind].informs and rule in FAULTS[line.kind].causes
    return said.rule == rule and (said.serious or (informs and right(said, line)))


def _confused(rule: str, lines: Iterable[Line]) -> str:
    """The runs on which a rule's warning was wrong, with how often."""
    wrong = Counter(
        "healthy runs" if line.healthy else line.kind
        for line in lines
        for said in line.said
        if _warns(said, rule, line) and not right(said, line)
    )
    return ", ".join(f"{kind} {count}" for kind, count in wrong.most_common(3)) or "–"


def _healthy(well: Sequence[Line]) -> str:
    rows = []
    for setting in dict.fromkeys(line.kind for line in well):
        own = [line for line in well if line.kind == setting]
        alarms = Counter(rule for line in own for rule in set(false_alarms(line)))
        told = ", ".join(f"`{rule}` {count}" for rule, count in alarms.most_common()) or "–"
        sets = str(len({line.set for line in own}))
        rows.append((setting, sets, _share_of(own, lambda line: bool(false_alarms(line))), told))
    return _table(("healthy runs", "sets", "with a false alarm", "which"), rows) if rows else ""


def _repairs(lines: Sequence[Line]) -> str:
    twins = {(w.set, w.optimizer, w.seed): w.metric for w in lines if w.kind == TWIN and w.metric is not None}
    repaired = [line for line in lines if line.repair and mended(line, twins) is not None]
    if not repaired:
        return ""

    def hit(line: Line) -> bool:
        return mended(line, twins) is True

    before = {line.key: line for line in lines if not line.repair}
    rows = []
    for name in [name for name in FAULTS if any(line.kind == name for line in repaired)]:
        own = [line for line in repaired if line.kind == name]
        plain = [before[key] for line in own if (key := (*line.key[:4], 0)) in before]
        tried = Counter(f"{rule} {status}" for line in own for rule, status in line.repairs)
        told = ", ".join(f"{what} {count}" for what, count in tried.most_common(3)) or "nothing"
        rows.append((name, _share_of(plain, hit), _share_of(own, hit), told))
    rows.append(("all", "", _share_of(repaired, hit), ""))
    return _table(("fault", "as good as healthy without repair", "with `repair: 2`", "what was tried"), rows)


def _failed(lines: Sequence[Line]) -> str:
    errors = Counter(line.error for line in lines if line.error)
    return "\n".join(f"Failed {count} ×: {error}" for error, count in errors.most_common())
