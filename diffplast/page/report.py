"""The page that shows a scale's results: one file of HTML that needs no other."""

import re
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

from diffplast.core import params
from diffplast.page import parts, tables
from diffplast.page.cost import cost, duration, machines, runs_table
from diffplast.page.overview import overview
from diffplast.page.portrait import tiles
from diffplast.page.replays import replays
from diffplast.report import claims, curves, figures, findings, numbers, style
from diffplast.report.results import ResultsError, TaskResults, evaluate_command

TASKS = Path(__file__).parents[1] / "tasks"
"""Where the texts of the tasks are, as TASK/page/text.html."""
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def write(scale: str, results: dict[str, TaskResults]) -> None:
    """Write claims.json, claims.md, cost.md, overview.png and .svg, and index.html to reports/SCALE.

    The figures of the tasks must be there. Raises ResultsError where one is missing.
    """
    folder = Path("reports", scale)
    found = claims.judge_all(results)
    titles = {name: result.kind.title for name, result in results.items()}
    (folder / "claims.json").write_text(tables.as_json(found, titles), encoding="utf-8")
    (folder / "claims.md").write_text(tables.as_markdown(found, titles, scale), encoding="utf-8")
    (folder / "cost.md").write_text(f"{cost(scale, results)}\n\n{runs_table(results)}\n", encoding="utf-8")
    with style.in_style():
        style.save(*overview(results), folder / "overview")
    (folder / "index.html").write_text(page(scale, results, found), encoding="utf-8")


def page(scale: str, results: dict[str, TaskResults], found: list[claims.Verdict]) -> str:
    """Return the report as one page of HTML."""
    shown = {name: findings.load(name) for name in results}
    moving = {name: parts.load(name) for name in results}
    players = {name: each.player(results[name]) for name, each in moving.items() if each.player}
    laboratories = {name: each.laboratory(results[name]) for name, each in moving.items() if each.laboratory}
    portraits = [each.portrait(results[name]) for name, each in moving.items() if each.portrait]
    portrait = next((found for found in portraits if found), None)
    folder = Path("reports", scale)
    return _environment().get_template("report.html").render(
        scale=scale,
        results=results,
        findings=shown,
        counted=[each for each in found if each.counted],
        apart=[each for each in found if not each.counted],
        verdicts=tables.counts_in_words(found),
        note=tables.NOTE,
        overview=picture(folder / "overview.svg"),
        pictures={
            name: [picture(folder / "figures" / name / f"{figure}.svg") for figure in figures.names(name)]
            for name in results
        },
        portrait=portrait,
        tiles=tiles(portrait) if portrait else [],
        laboratories={name: lab for name, lab in laboratories.items() if lab},
        players={name: data for name, data in players.items() if data},
        tables={name: tables.arm_table(result) for name, result in results.items()},
        machines=machines(results),
        missing=[run for result in results.values() for run in result.missing],
        cost=cost(scale, results),
    )


def _environment() -> Environment:
    """Return the templates' environment: those of the report, and the texts of the tasks."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("diffplast.page"), FileSystemLoader(TASKS)]),
        undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number, "percent": numbers.percent, "duration": duration, "flat": flat, "setting": setting,
        "css_class": lambda text: text.replace(" ", "-"), "mark": claims.MARKS.get, "reason": tables.reason,
        "seeds": tables.seeds_in_words, "test": tables.test_in_words,
    }
    environment.globals |= {
        "curves": curves.points, "evaluate_command": evaluate_command, "parameters": parameters, "show": numbers.show,
        "spread": numbers.spread, "arm_label": curves.label, "replays": replays,
        "paper_words": curves.paper_words,
    }
    return environment


def picture(path: Path) -> dict[str, str]:
    """Return an SVG figure as a data URI whose lines follow the reader's light or dark scheme, its title and words.

    path: reports/SCALE/figures/TASK/NAME.svg. Raises ResultsError where the stage that draws it has not made it.
    """
    if not path.exists():
        command = f"dvc repro stages/{path.parts[3]}/dvc.yaml:figures@{path.parts[1]}"
        raise ResultsError(f"{path}: no such figure; make it with: {command}")
    text = path.read_text(encoding="utf-8")
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


def flat(content: dict, prefix: str = "") -> list[tuple[str, str]]:
    """Return the entries of nested mappings and lists of mappings, each with its dotted key and its value in words."""
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
    """Return the task's block of params.yaml as it is written there, comments and all, without the other scales.

    DVC watches the values alone: a comment that is edited appears when the page is next made.
    """
    block = re.search(rf"^{task}:.*?(?=^\w|\Z)", params.PATH.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    others = "|".join(name for name in params.SCALES if name != scale)
    block = re.sub(rf"^    ({others}): .*\n", "", block, flags=re.MULTILINE)
    return re.sub(rf"^  ({others}):.*\n(    .*\n)*", "", block, flags=re.MULTILINE).rstrip()


def setting(found: TaskResults, name: str) -> str:
    """Write a setting of a task's training in words: one value, or one for each arm where they differ."""
    values = {arm: found.setting(name, arm) for arm in found.arms}
    words = {
        arm: numbers.setting(value) if isinstance(value, float) else numbers.number(value)
        for arm, value in values.items()
    }
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{value} ({found.label(arm)})" for arm, value in words.items())
