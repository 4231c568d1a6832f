"""The sizes of the house style: parameters of a function, lines of a file, passages that stand twice."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = sorted(path for folder in ("diffplast", "stages") for path in (ROOT / folder).rglob("*.py"))
PARAMETERS, LINES, PASSAGE = 8, 400, 6
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def too_many_parameters(tree: ast.Module) -> list[str]:
    """Names of functions with more than PARAMETERS, self and cls aside, whose docstrings give no reason."""
    inside = {id(node) for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for node in owner.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            a = node.args
            count = len([*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))])
            static = any(isinstance(by, ast.Name) and by.id == "staticmethod" for by in node.decorator_list)
            count -= id(node) in inside and not static
            if count > PARAMETERS and "More than eight parameters: " not in (ast.get_docstring(node) or ""):
                found.append(node.name)
    return found


def too_long(text: str) -> bool:
    """Whether a file has more than LINES and a module docstring without a reason for it."""
    return len(text.splitlines()) > LINES and "More than 400 lines: " not in (ast.get_docstring(ast.parse(text)) or "")


def passages(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Every PASSAGE lines of code in a row, with the number of the first.

    Without indentation, blank lines, comments, docstrings, imports and the signatures of functions.
    """
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            skipped |= set(range(node.lineno, node.end_lineno + 1))
        if isinstance(node, FUNCTIONS):
            skipped |= set(range(node.lineno, node.body[0].lineno))
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)) and ast.get_docstring(node):
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in skipped]
    code = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    return [
        (code[start][0], tuple(line for _, line in code[start : start + PASSAGE]))
        for start in range(len(code) - PASSAGE + 1)
    ]


def twice(texts: dict[str, str]) -> list[list[str]]:
    """Places, as file:line, of passages that stand at more than one."""
    found = defaultdict(list)
    for name, text in texts.items():
        for number, passage in passages(text):
            found[passage].append(f"{name}:{number}")
    return [places for places in found.values() if len(places) > 1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_functions_and_files_are_short_or_say_why(file):
    assert too_many_parameters(parsed(file)) == []
    assert not too_long(file.read_text(encoding="utf-8"))


def test_no_passage_stands_twice():
    assert twice({str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}) == []


def test_what_is_too_large_is_found():
    names = ", ".join(f"p{number}" for number in range(9))
    assert too_many_parameters(ast.parse(f"def f({names}): pass")) == ["f"]
    assert too_many_parameters(ast.parse(f"class C:\n    def f({names}): pass")) == []
    assert too_many_parameters(ast.parse(f"class C:\n    @staticmethod\n    def f({names}): pass")) == ["f"]
    assert too_many_parameters(ast.parse(f'def f({names}):\n    """More than eight parameters: why."""')) == []
    assert too_long("x = 1\n" * 401) and not too_long("x = 1\n" * 400)
    assert not too_long('"""More than 400 lines: why."""\n' + "x = 1\n" * 400)


def test_a_copied_passage_is_found():
    lines = [f"x{number} = {number}" for number in range(PASSAGE)]
    copied = "def f():\n    " + "\n\n    ".join(lines)
    assert twice({"a": "\n".join(lines), "b": copied}) == [["a:1", "b:2"]]
    assert twice({"a": "\n".join(lines), "b": "\n".join(lines[1:])}) == []
