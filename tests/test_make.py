"""What `make reproduce` would do."""

import os
import re
import shutil
import subprocess

from diffplast.core import params
from tests.conftest import ROOT


def test_reproduce_runs_laptop_whatever_scale_ran_before(tmp_path):
    for name in ("Makefile", "params.yaml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in ("SCALE", "MAKEFLAGS")}
    for given, scale in ((["SCALE=smoke"], "smoke"), ([], "laptop")):
        command = ["make", "--dry-run", "reproduce", *given]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        modules = re.findall(r"^python -m (.+)$", ran.stdout, re.MULTILINE)
        assert modules == [f"diffplast.core.params scale={scale}", "diffplast.parallel"]
        params.assign([modules[0].partition(" ")[2]], tmp_path / "params.yaml")
        assert params.read(tmp_path / "params.yaml")["scale"] == scale
        assert f"reports/{scale}/index.html" in ran.stdout
