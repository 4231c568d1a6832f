"""Evaluate a trained network: python -m stages.evaluate TASK SCALE ARM-SEED. Writes to reports/SCALE/runs/TASK/."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import torch

from diffplast.core import params, runs, seeds
from diffplast.core.checkpoint import load_tensors
from diffplast.core.errors import UserError
from diffplast.core.training import new_network
from diffplast.evaluation import evaluate, thin


@runs.report_user_errors()
def main(arguments: list[str]) -> None:
    """Read and check params, evaluate on held-out episodes, write metrics, thinned curve and examples."""
    run = runs.parse_run(arguments, __doc__)
    checked = params.load(run.task)
    task = runs.open_task(run, checked)
    untrained = new_network(task, run.seed)
    network = new_network(task, run.seed)
    try:
        network.load_state_dict(load_tensors(run.folder / "weights.pt", task.device))
        outcome = json.loads((run.folder / "outcome.json").read_text())
        curve = pd.read_csv(run.folder / "curve.csv")
    except OSError:
        raise
    except Exception as error:
        remedy = f"`rm -r {run.folder}; chmod -R u+w .dvc/cache; dvc repro` has DVC check its cache and train again"
        raise UserError(f"{run.folder}: damaged ({error}); {remedy}") from error
    test = getattr(getattr(checked, run.task).test, run.scale)

    metrics = outcome | evaluate(task, network, test, run.seed)
    with torch.no_grad():
        examples = task.examples(network, untrained, seeds.generator(run.seed, "examples"))
    run.results.mkdir(parents=True, exist_ok=True)
    with runs.writing_to(run.results):
        runs.write_json(run.results / "metrics.json", metrics)
        thin(curve).to_csv(run.results / "curve.csv", index=False)
        np.savez_compressed(run.results / "examples.npz", **examples)
        shutil.copyfile(run.folder / "run.json", run.results / "run.json")
        if task.dataset is not None:
            shutil.copyfile(runs.data_folder(task.dataset, run.scale) / "source.json", run.results / "data.json")
    run.checkpoint.unlink(missing_ok=True)  # the trained network is safe in DVC's cache, with its curve
    run.live.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
