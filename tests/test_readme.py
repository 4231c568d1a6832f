"""What the README shows runs as shown, and what it links is there."""

import re
import subprocess
import sys

import pytest

from diffplast.page import readme
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", example], check=True, cwd=ROOT)


def test_the_readme_is_short():
    prose = re.sub(f"{readme.START}.*?{readme.END}", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 900


def test_what_we_learned_is_short():
    assert len((ROOT / "docs" / "learned.md").read_text().split()) <= 600


def test_the_claims_have_one_place():
    assert README.count(readme.START) == README.count(readme.END) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_linked_exist(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
