"""The README's table of claims and docs/learned.md, from the claims.json of two scales.

    python -m diffplast.page.readme           rewrite them
    python -m diffplast.page.readme --check   only say whether they are up to date
"""

import argparse
import json
import re
import sys
from pathlib import Path

from diffplast.page import learned
from diffplast.report.claims import MARKS, NOT_REPRODUCED
from diffplast.report.results import ResultsError

README = Path("README.md")
LEARNED = Path("docs/learned.md")
SCALES = {"laptop": "laptop: half an hour", "study": "study: the paper's lengths"}
"""Scales and the heads of their columns."""
START, END = "<!-- claims:start -->", "<!-- claims:end -->"
COMMAND = "python -m diffplast.page.readme"
ORDER = (
    "Small numbers are better for patterns (wrong bits) and images (squared error), large ones for the maze (reward) "
    "and Omniglot (accuracy). Two numbers are in the order of the claim's sentence."
)
NOT_RUN = "not run yet"


def claims() -> dict[str, list[dict]]:
    """Read the claims.json of every scale that has one. Raises ResultsError where none has."""
    files = {scale: Path("reports", scale, "claims.json") for scale in SCALES}
    entries = {scale: json.loads(path.read_text(encoding="utf-8")) for scale, path in files.items() if path.exists()}
    if not entries:
        raise ResultsError(f"{files['laptop']}: no such file; make it with: dvc repro report@laptop")
    return entries


def block(entries: dict[str, list[dict]]) -> str:
    """Return what belongs between the README's two marks. entries: of claims.json, by scale."""
    counted = {scale: [entry for entry in found if entry["counted"]] for scale, found in entries.items()}
    return f"{table(counted)}\n{legend(counted)}\n{beside(entries)}"


def table(entries: dict[str, list[dict]]) -> str:
    """Return a row for each claim, one mark and one number a cell. entries: of claims.json, by scale."""
    titles = {
        scale: f"[{name}](reports/{scale}/claims.md)" if scale in entries else name for scale, name in SCALES.items()
    }
    lines = [f"| | claim | paper | {' | '.join(titles.values())} |", "| --- |" + " --- |" * (2 + len(SCALES))]
    rows = {}  # of all scales: one may have claims that the other lacks
    for scale, found in entries.items():
        for entry in found:
            rows.setdefault((entry["task"], entry["name"]), {})[scale] = entry
    order = list(dict.fromkeys(task for task, _ in rows))
    last = None
    for task in order:
        for (where, name), by_scale in rows.items():
            if where != task:
                continue
            any_scale = next(iter(by_scale.values()))
            cells = [_cell(by_scale[scale]) if scale in by_scale else NOT_RUN for scale in SCALES]
            head = f"**{any_scale['title']}**" if task != last else ""
            last = task
            row = (head, name, any_scale["paper"], *cells)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _cell(entry: dict) -> str:
    one = any(len(arm["values"]) == 1 for arm in entry["arms"].values())
    return f"{entry['mark']} {entry['short']}{' (1 seed)' if one else ''}"


def legend(entries: dict[str, list[dict]]) -> str:
    """Return what the marks mean, with how many claims came to each at every scale."""
    parts = []
    for verdict, mark in MARKS.items():
        count = ", ".join(f"{sum(e['verdict'] == verdict for e in found)} {scale}" for scale, found in entries.items())
        parts.append(f"{mark} {verdict} ({count})")
    return " · ".join(parts) + "\n\n" + ORDER


def beside(entries: dict[str, list[dict]]) -> str:
    """Name what is not counted and not reproduced, with its numbers; nothing where there is no such thing."""
    failing = [
        entry for entry in learned.decided(entries) if not entry["counted"] and entry["verdict"] == NOT_REPRODUCED
    ]
    named = [f"{entry['title']}, {entry['name']}: {entry['short']} (paper: {entry['paper']})" for entry in failing]
    return f"\nNot counted, and not reproduced: {'; '.join(named)}.\n" if named else ""


def renewed(text: str, content: str) -> str:
    """Return the README's text with `content` between its marks. Raises ResultsError where they are not there."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ResultsError(f"{README}: expected one block between {START} and {END}")
    return pattern.sub(lambda _: f"{START}\n{content}{END}", text)


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the table is out of date")
    arguments = parser.parse_args()
    try:
        old = README.read_text(encoding="utf-8")
        entries = claims()
        written = {README: renewed(old, block(entries)), LEARNED: learned.page(entries)}
    except (ResultsError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    old_ones = [path for path, text in written.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in old_ones:
        if arguments.check:
            print(f"{path}: the claims are out of date; renew them with: {COMMAND}", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(written[path], encoding="utf-8")
    return 1 if arguments.check and old_ones else 0


if __name__ == "__main__":
    sys.exit(main())
