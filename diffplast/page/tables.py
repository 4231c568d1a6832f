"""The claims as files: claims.json for programs, claims.md for readers; and the values of a task's arms."""

import json
from collections import Counter

from diffplast.report import numbers, statistics
from diffplast.report.claims import AGREES, MARKS, Verdict
from diffplast.report.results import TaskResults

HEAD = ("claim", "paper", "ours", "verdict")
NOTE = (
    "Ours, where nothing else is said: median over seeds on unseen episodes, with quartiles, or the range below three "
    "seeds. Claims about the course of training are judged by training curves, whose windows are the points drawn; "
    "the paper’s numbers for images and maze are of training too. Homogeneous α: one α that all connections share. "
    "What a claim of the paper rests on: its text (version 1), a figure, the released programs, or version 3 as it is "
    "believed to be (v3?), which decides nothing."
)
"""How to read the tables of claims."""


def as_json(verdicts: list[Verdict], titles: dict[str, str]) -> str:
    """Return the text of claims.json. titles: of the tasks, by name."""
    entries = [{"title": titles[each.task], **each.as_dict()} for each in verdicts]
    return json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def counts(verdicts: list[Verdict]) -> dict[str, int]:
    """Return how many claims that count came to each verdict, in the order of MARKS, where any did."""
    count = Counter(each.verdict for each in verdicts if each.counted)
    return {verdict: count[verdict] for verdict in MARKS if count[verdict]}


def counts_in_words(verdicts: list[Verdict]) -> str:
    """Return `counts` in words."""
    words = {AGREES: "agree under changed conditions"}
    parts = [
        f"{count} {words.get(verdict, verdict) if count > 1 else verdict}"
        for verdict, count in counts(verdicts).items()
    ]
    return ", ".join(parts) or "none judged"


def as_markdown(verdicts: list[Verdict], titles: dict[str, str], scale: str) -> str:
    """Return claims.md: a table of the claims that count, one of what is listed apart, and each in detail."""
    counted, apart = ([each for each in verdicts if each.counted is counts] for counts in (True, False))
    count = f"{len(counted)} claim{'' if len(counted) == 1 else 's'}"
    lines = [f"# Claims at scale {scale}", "", f"{count} of the paper: {counts_in_words(counted)}.", ""]
    lines += [NOTE + " How ours departs from the paper: [departures](../../docs/departures.md).", ""]
    lines += _rows(counted, titles)
    if apart:
        lines += ["", "## Controls and comparisons of ours, not counted", "", *_rows(apart, titles)]
    lines += ["", "## In detail"]
    for each in (*counted, *apart):
        lines += ["", *_detail(each, titles)]
    return "\n".join(lines) + "\n"


def _rows(verdicts: list[Verdict], titles: dict[str, str]) -> list[str]:
    lines = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    for each in verdicts:
        verdict = f"{MARKS[each.verdict]} {each.verdict}"
        cells = (f"**{titles[each.task]}.** {each.claim.text}", each.claim.published, each.short, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _detail(verdict: Verdict, titles: dict[str, str]) -> list[str]:
    claim = verdict.claim
    parts = {
        "Claim": f"{claim.text} ({claim.place}; source: {claim.source})", "Paper": claim.published,
        "Ours": verdict.measured.ours, "Every seed": seeds_in_words(verdict), "Test": test_in_words(verdict),
        "Verdict": f"**{verdict.verdict}**{_after(reason(verdict))}",
    }
    head = f"### {titles[verdict.task]}: {claim.name}"
    return [head, "", *(f"- {name}: {words}" for name, words in parts.items())]


def _after(words: str) -> str:
    return f": {words}" if words else ""


def seeds_in_words(verdict: Verdict) -> str:
    """Write every seed's value of what the rule measures, arm by arm."""
    each = verdict.measured.each or {entry["label"]: entry["values"] for entry in verdict.values.values()}
    parts = []
    for label, values in each.items():
        parts.append(f"{label}: {', '.join(map(_plain, values)) or 'none'}")
    return "; ".join(parts)


def _plain(value: float | None) -> str:
    """Write a seed's value as it is, to four digits; None for what was never reached."""
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 1e4 or float(value).is_integer() else f"{value:.4g}"


def test_in_words(verdict: Verdict) -> str:
    """Write the rule with its p-value, corrected where it counts, and the size of the effect."""
    parts = [verdict.claim.test]
    if verdict.p_holm is not None:
        corrected = ", corrected over the task's claims" if verdict.counted else ""
        parts.append(f"{numbers.p_value(verdict.p_holm)}{corrected}")
    if verdict.measured.effect is not None:
        parts.append(str(verdict.measured.effect))
    return "; ".join(parts)


def reason(verdict: Verdict) -> str:
    """Write why a claim is not reproduced, and what differs from the paper; and why it is listed apart."""
    parts = [verdict.why] if verdict.why else []
    if verdict.differs:
        parts.append(f"differs: {'; '.join(verdict.differs)}")
    if verdict.claim.apart:
        parts.append(verdict.claim.apart)
    first, rest = parts[:1], parts[1:]
    return ". ".join([*first, *(part[0].upper() + part[1:] for part in rest)])


def arm_table(found: TaskResults) -> list[dict[str, str | list[str]]]:
    """Return one row an arm: its values on unseen episodes over seeds, as the field summarises them, and the test."""
    rows = []
    first = found.values(found.arms[0]) if found.arms else []
    for arm in found.arms:
        values = found.values(arm)
        row = {
            "arm": found.label(arm),
            "seeds": found.seeds_in_words(arm),
            "failed": [run.failure for run in found.failed(arm)],
            "each": ", ".join(numbers.show(found.measure, value) for value in values) or "–",
        }
        row |= dict.fromkeys(("median", "spread", "mean", "interval", "p"), "–")
        if len(values):
            middle, low, high = numbers.band(values)
            row["median"] = numbers.show(found.measure, middle)
            if len(values) > 1:
                row["spread"] = f"{numbers.bare(found.measure, low)} to {numbers.bare(found.measure, high)}"
            if interval := statistics.bootstrap_interval(values):
                row["interval"] = " to ".join(numbers.bare(found.measure, bound) for bound in interval)
            row["mean"] = numbers.show(found.measure, statistics.interquartile_mean(values))
            if arm != found.arms[0] and len(first):
                test = statistics.rank_sum(first, values, found.measure.higher_is_better)
                least = "" if test.smallest < statistics.SIGNIFICANT else f" (least possible: {test.smallest:.2g})"
                row["p"] = f"{test.p:.2g}{least}"
        rows.append(row)
    return rows
