"""What the README shows runs as shown."""

import re
import subprocess
import sys

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_example_runs_and_learns():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.splitlines()) < 30
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert float(re.findall(r"wrong: ([\d.]+)%", result.stdout)[-1]) < 15


def test_files_that_are_linked_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
