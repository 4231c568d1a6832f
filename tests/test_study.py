"""The study's script, on its shortest stage: data of its own, DVC and the record of what is finished are real."""

import zipfile
from io import BytesIO

import numpy as np
from PIL import Image

from diffplast.core import params
from tests.test_pipeline import Clone


def test_the_study_prepares_given_images_and_keeps_the_record(tmp_path):
    clone = Clone(tmp_path)
    rng = np.random.default_rng(7)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for number in range(60):
            picture = BytesIO()
            Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(picture, "PNG")
            archive.writestr(f"{number}.png", picture.getvalue())
    study = ("python", "-m", "stages.study")
    clone.run(*study, "--images", "pictures.zip", "--describe", "Noise: set #2", "dvc.yaml:prepare_images@study")
    assert (clone.folder / "data/study/images/data.npz").exists()
    chosen = params.read(clone.folder / "params.yaml")
    assert chosen["scale"] == "study" and chosen["datasets"] == {"images": "folder", "omniglot": "omniglot"}
    assert chosen["data"]["images"]["folder"]["description"] == "Noise: set #2"
    assert len([run for run in chosen["maze"]["runs"] if run.startswith("plastic-")]) == 15
    kept = params.read(clone.folder / "reports/study/params.yaml")
    assert kept["scale"] == "study" and kept["maze"]["runs"] == chosen["maze"]["runs"][:1]  # none is finished
    assert "prepare_images@study" in (clone.folder / "reports/study/locks/dvc.lock").read_text()
    clone.run("mv", "pictures.zip", "downloads/own.zip")
    clone.run(*study, "--images", "downloads/own.zip", "dvc.yaml:prepare_images@study")
    assert (clone.folder / "downloads/own.zip").stat().st_size > 0  # in its place, and no link to itself
    missing = clone.run(*study, "--images", "none.zip", succeeds=False)
    assert "none.zip: there is no such file" in missing
