"""The claims table and the page that shows a scale's results; and the README's copy of the table.

    python -m diffplast.report --readme           rewrite the README's claims from the laptop scale's
    python -m diffplast.report --readme --check   only say whether they are up to date
"""

import argparse
import re
import sys
from collections import Counter
from datetime import timedelta
from math import ceil
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from diffplast.core import params
from diffplast.report import claims, curves, figures, numbers, published, statistics, style
from diffplast.report.overview import overview
from diffplast.report.results import ResultsError, TaskResults, evaluate_command
from diffplast.tasks.maze.findings import animation

README = Path("README.md")
README_SCALE = "laptop"
START, END = "<!-- claims:start -->", "<!-- claims:end -->"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
README_COMMAND = "python -m diffplast.report --readme"


def write(scale: str, results: dict[str, TaskResults]) -> None:
    """Write claims.json, claims.md, cost.md, figures/overview and index.html to reports/SCALE.

    The figures of the tasks must be there. Raises ResultsError where one is missing.
    """
    folder = Path("reports", scale)
    found = claims.judge_all(results)
    (folder / "claims.json").write_text(claims.as_json(found))
    titles = {name: result.kind.title for name, result in results.items()}
    (folder / "claims.md").write_text(claims.as_markdown(found, titles))
    (folder / "cost.md").write_text(cost(scale, results) + "\n")
    with style.in_style():
        style.save(*overview(results), folder / "figures" / "overview")
    (folder / "index.html").write_text(page(scale, results, found))


# The page -----------------------------------------------------------------------------------------------------------


def page(scale: str, results: dict[str, TaskResults], found: list[claims.Claim]) -> str:
    """The report as one page of HTML that needs no other file."""
    templates = ChoiceLoader([PackageLoader("diffplast.report"), PackageLoader("diffplast", "tasks")])
    environment = Environment(
        loader=templates, undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": numbers.number, "duration": duration, "flat": flat, "setting": setting}
    environment.globals |= {
        "curves": curves.points, "evaluate_command": evaluate_command, "log_episodes": curves.LOG_EPISODES,
        "maze_episodes": animation.episodes, "parameters": parameters, "show": numbers.show,
        "spread": numbers.spread,
    }
    folder = Path("reports", scale) / "figures"
    return environment.get_template("report.html").render(
        scale=scale,
        results=results,
        claims=found,
        verdicts=Counter(entry.finding.verdict for entry in found),
        overview=picture(folder / "overview.svg"),
        pictures={
            name: [picture(folder / f"{figure}.svg", name) for figure in figures.names(name)] for name in results
        },
        tables={name: arm_table(result) for name, result in results.items()},
        machines=machines(results),
        cost=cost(scale, results),
        solved_error=published.SOLVED_ERROR,
    )


def picture(path: Path, task: str = "") -> dict[str, str]:
    """An SVG figure as a data URI whose lines follow the reader's light or dark scheme, its title and words.

    Raises ResultsError where the stage that draws the figures of `task` has not made it.
    """
    if not path.exists():
        command = f"dvc repro stages/{task}/dvc.yaml:figures@{path.parts[1]}"
        raise ResultsError(f"{path}: no such figure; make it with: {command}")
    text = path.read_text()
    about = ElementTree.fromstring(text)
    terms = {name: about.findtext(f".//{DUBLIN_CORE}{name}") for name in ("title", "description")}
    rules = (
        f"svg{{color:{style.INK}}}@media screen and (prefers-color-scheme:dark){{svg{{color:{style.LIGHT_INK}}}}}"
    )
    text = text.replace(style.INK, "currentColor").replace(f"fill: {style.PAPER}", "fill: none")
    text = text.replace(f"stroke: {style.PAPER}", "stroke: none").replace("</style>", f"{rules}</style>", 1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Text as it is takes a quarter less than base64. An address drops line ends, and is itself between double quotes.
    text = text.replace(">\n<", "><").replace("\n", " ").replace('"', "'")
    encoded = quote(text, safe=" !'$()*+,-./:;=?@[]^_`{|}~<>")
    return {"source": Markup(f"data:image/svg+xml,{encoded}"), **terms}


def arm_table(found: TaskResults) -> list[dict[str, str]]:
    """One row an arm: its values on unseen episodes over seeds, as the field summarises them, and the test."""
    rows = []
    first = found.values(found.arms[0])
    for arm in found.arms:
        values = found.values(arm)
        row = {"arm": found.label(arm), "seeds": str(len(values)), "failed": [r.failure for r in found.failed(arm)]}
        row |= dict.fromkeys(("median", "spread", "mean", "interval", "p"), "–")
        if len(values):
            middle, low, high = numbers.band(values)
            row["median"] = numbers.show(found.metric, middle)
            if len(values) > 1:
                row["spread"] = f"{numbers.bare(found.metric, low)} to {numbers.bare(found.metric, high)}"
            if interval := statistics.bootstrap_interval(values):
                row["interval"] = " to ".join(numbers.bare(found.metric, bound) for bound in interval)
            row["mean"] = numbers.show(found.metric, statistics.interquartile_mean(values))
            if arm != found.arms[0] and len(first):
                test = statistics.rank_sum(first, values, found.measure.higher_is_better)
                row["p"] = f"{test.p:.2g}" + ("" if test.can_decide else f" (least possible: {test.smallest:.2g})")
        rows.append(row)
    return rows


def machines(results: dict[str, TaskResults]) -> list[tuple[str, int]]:
    """Machine, versions and commit that runs were made on, with the number of runs, most first."""
    counts = Counter(
        f"{m['processor']}, {m['device']}, {m['threads']} threads of {m['cores']} cores; Python {m['python']}, "
        f"PyTorch {m['torch']}; commit {m['commit']}"
        for m in (run.machine for result in results.values() for run in result.runs)
    )
    return counts.most_common()


def cost(scale: str, results: dict[str, TaskResults]) -> str:
    """What all runs took, and what those that can be compared would have taken with the released programs."""
    costs = [run.machine for result in results.values() for run in result.runs]
    total = sum(machine["seconds"] for machine in costs)
    where = " and ".join(
        f"{name} ({threads} threads)"
        for name, threads in dict.fromkeys((machine["processor"], machine["threads"]) for machine in costs)
    )
    memory = ceil(max(machine["peak_memory_mb"] for machine in costs) / 100) / 10
    return (
        f"Scale {scale}: the wall times of {len(costs)} training runs add up to {duration(total)} on {where}; "
        f"none needed more than {memory:.1f} GB of memory."
    ) + _against_programs(results)


def _against_programs(results: dict[str, TaskResults]) -> str:
    known = [
        (run.machine["seconds"], published.PROGRAM_SECONDS[name][run.run.arm] * run.metrics["train_episodes"])
        for name, result in results.items()
        for run in result.runs
        if run.run.arm in published.PROGRAM_SECONDS.get(name, {})
    ]
    if not known:
        return ""
    ours, theirs = (sum(seconds) for seconds in zip(*known, strict=True))
    return (
        f" The released programs would take {duration(theirs)} on two cores for the training episodes of {len(known)} "
        f"of them (the arms whose cost is known), which took {duration(ours)}: "
        f"{numbers.number(theirs / ours)} times as long."
    )


def duration(seconds: float) -> str:
    """A time in words, to two units."""
    left = timedelta(seconds=round(seconds))
    hours, minutes, rest = left // timedelta(hours=1), left.seconds // 60 % 60, left.seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def flat(content: dict, prefix: str = "") -> list[tuple[str, str]]:
    """The entries of nested mappings and lists of mappings, each with its dotted key and its value in words."""
    entries = []
    for key, value in content.items():
        if isinstance(value, dict):
            entries += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            parts = [", ".join(map(str, item.values())) if isinstance(item, dict) else str(item) for item in value]
            entries.append((f"{prefix}{key}", "; ".join(parts)))
        elif value is not None:
            entries.append((f"{prefix}{key}", f"{value:,}" if type(value) is int else str(value)))
    return entries


def parameters(task: str, scale: str) -> str:
    """The task's block of params.yaml as it is written there, comments and all, without the other scales.

    DVC watches the values alone: a comment that is edited appears when the page is next made.
    """
    block = re.search(rf"^{task}:.*?(?=^\w|\Z)", params.PATH.read_text(), re.DOTALL | re.MULTILINE)[0]
    others = "|".join(name for name in params.SCALES if name != scale)
    block = re.sub(rf"^    ({others}): .*\n", "", block, flags=re.MULTILINE)
    return re.sub(rf"^  ({others}):.*\n(    .*\n)*", "", block, flags=re.MULTILINE).rstrip()


def setting(found: TaskResults, name: str) -> str:
    """A setting of a task's training in words: one value, or one for each arm where they differ."""
    values = {arm: found.settings.for_arm(name, arm) for arm in found.arms}
    if len(set(values.values())) == 1:
        return numbers.number(next(iter(values.values())))
    return ", ".join(f"{numbers.number(value)} ({found.label(arm)})" for arm, value in values.items())


# The README ---------------------------------------------------------------------------------------------------------


def readme_block() -> str:
    """What belongs between the README's two marks."""
    folder = Path("reports", README_SCALE)
    table, price = (folder / name for name in ("claims.md", "cost.md"))
    for path in (table, price):
        if not path.exists():
            raise ResultsError(f"{path}: no such file; make it with: dvc repro report@{README_SCALE}")
    return f"{table.read_text()}\n{price.read_text()}"


def readme_with(text: str, block: str) -> str:
    """The README's text with `block` between its marks. Raises ResultsError where they are not there."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ResultsError(f"{README}: expected one block between {START} and {END}")
    return pattern.sub(lambda _: f"{START}\n{block}{END}", text)


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m diffplast.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--readme", action="store_true", required=True, help=f"renew the claims in {README}")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the claims are out of date")
    arguments = parser.parse_args()
    try:
        old = README.read_text()
        new = readme_with(old, readme_block())
    except (ResultsError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.check and new != old:
        print(f"{README}: the claims are out of date; renew them with: {README_COMMAND}", file=sys.stderr)
        return 1
    if new != old:
        README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
