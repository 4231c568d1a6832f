"""The study: every run at its full length, on the paper's data sets.

python -m stages.study [--archives DIR] [--images ZIP --describe TEXT] [TARGET ...]   train, evaluate, draw, keep
python -m stages.study --keep                                                         keep what is finished

Sets params.yaml to the scale `study`, runs the pipeline, and keeps in reports/study/ what shows later that the
committed code made the committed results: params.yaml, with the runs that are finished, and locks/, its part of every
dvc.lock (DVC rewrites these files after each stage, and so many runs would slow down those of other scales).
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from ruamel.yaml import YAML

from diffplast.core import params, registry, runs
from diffplast.core.errors import UserError

SCALE = "study"
KEPT = Path("reports", SCALE)
DOWNLOADS = Path("downloads")
ARCHIVES = {
    "images_background.zip": "data.omniglot.omniglot.background",
    "images_evaluation.zip": "data.omniglot.omniglot.evaluation",
    "cifar-10-binary.tar.gz": "data.images.cifar10.archive",
}
"""Names of the official archives, and the option that names a copy."""


def choose(archives: Path | None, images: Path | None, description: str | None) -> None:
    """Set params.yaml to the study: its scale, its runs and where its data come from.

    archives: folder with copies of official archives, used where it has them. images: a zip used in place of CIFAR-10,
    described for the report. Copies are linked into downloads/, so that no path of one machine enters params.yaml.
    Raises UserError where a file is missing.
    """
    chosen = [f"scale={SCALE}", "datasets.omniglot=omniglot", f"datasets.images={'folder' if images else 'cifar10'}"]
    for name, option in ARCHIVES.items():
        if archives is not None and (archives / name).exists():
            link(archives / name)
            checksum = hashlib.sha256((archives / name).read_bytes()).hexdigest()
            chosen += [f"{option}.mirror={json.dumps(str(DOWNLOADS / name))}", f"{option}.sha256={checksum}"]
    if images is not None:
        link(images)
        folder = "data.images.folder"
        chosen += [f"{folder}.path={json.dumps(str(DOWNLOADS / images.name))}", f"{folder}.test_share=0.2"]
        chosen += [f"{folder}.description={json.dumps(description or None, ensure_ascii=False)}"]
    params.assign(chosen)


def link(file: Path) -> None:
    """Link a file into downloads/, unless it lies there itself. Raises UserError where it is not there."""
    if not file.exists():
        raise UserError(f"{file}: there is no such file")
    DOWNLOADS.mkdir(exist_ok=True)
    here, target = DOWNLOADS.resolve() / file.name, file.resolve()
    if here != target:
        here.unlink(missing_ok=True)
        here.symlink_to(target)


def keep() -> None:
    """Copy to reports/study/ the parameters, with the runs that are finished, and its part of every dvc.lock.

    A task without any keeps its first run: without one DVC has no folder of results for the figures to depend on.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(params.PATH, KEPT / params.PATH)
    finished = []
    for task in registry.names():
        names = getattr(params.load(task), task).runs
        made = [name for name in names if (runs.parse_run([task, SCALE, name], "").results / "metrics.json").exists()]
        finished.append(f"{task}.runs=[{','.join(made or names[:1])}]")
    params.assign(finished, KEPT / params.PATH)
    yaml = YAML()
    for lock in [Path("dvc.lock"), *sorted(Path("stages").glob("*/dvc.lock"))]:
        content = yaml.load(lock.read_text(encoding="utf-8"))
        stages = content["stages"]
        for name in [name for name in stages if f"@{SCALE}" not in name]:
            del stages[name]
        place = KEPT / "locks" / lock
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)


@runs.report_user_errors(after_interrupt="the same command resumes")
def main(arguments: list[str]) -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro`; default: all")
    parser.add_argument("--archives", type=Path, metavar="DIR", help="folder with copies of the official archives")
    parser.add_argument("--images", type=Path, metavar="ZIP", help="images in place of CIFAR-10")
    parser.add_argument("--describe", metavar="TEXT", help="what these images are, for the report")
    parser.add_argument("--keep", action="store_true", help="only keep what is finished")
    chosen = parser.parse_args(arguments)
    if chosen.keep:
        keep()
        return 0
    choose(chosen.archives, chosen.images, chosen.describe)
    from diffplast.parallel.__main__ import main as run_pipeline

    try:
        return run_pipeline(chosen.targets)
    finally:
        keep()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
