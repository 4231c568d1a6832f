"""docs/learned.md: what a second reproducer should know, every number from the claims.json of two scales."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffplast.report.claims import AGREES, NOT_DECIDED, NOT_REPRODUCED, REPRODUCED

BEST = "study", "laptop"
"""Whose verdict counts, where both have one."""


def decided(entries: dict[str, list[dict]]) -> list[dict]:
    """Return one entry for each claim, with its `scale`: the study's, or laptop's where that knows more."""
    chosen = {}
    for scale in BEST:
        for entry in entries.get(scale, []):
            key = entry["task"], entry["name"]
            if key not in chosen or _knows(entry) > _knows(chosen[key]):
                chosen[key] = entry | {"scale": scale}
    return list(chosen.values())


def _knows(entry: dict) -> tuple[bool, bool]:
    """Order entries: with a verdict, then with a number, then without either."""
    return entry["verdict"] != NOT_DECIDED, entry["short"] != "–"


def page(entries: dict[str, list[dict]]) -> str:
    """Return the page. entries: of claims.json, by scale."""
    found = decided(entries)
    environment = Environment(
        loader=PackageLoader("diffplast.page"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    parts = {
        "holds": [entry for entry in found if entry["counted"] and entry["verdict"] == REPRODUCED],
        "agrees": [entry for entry in found if entry["counted"] and entry["verdict"] == AGREES],
        "fails": [entry for entry in found if entry["counted"] and entry["verdict"] == NOT_REPRODUCED],
        "open": [entry for entry in found if entry["counted"] and entry["verdict"] == NOT_DECIDED],
    }
    beside = [entry for entry in found if not entry["counted"] and entry["verdict"] == NOT_REPRODUCED]
    by_name = {(entry["task"], entry["name"].replace("\u00a0", " ")): entry for entry in found}
    return environment.get_template("learned.md").render(
        **parts, beside=beside, total=sum(map(len, parts.values())), of=lambda task, name: by_name[task, name]
    )
