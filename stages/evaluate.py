"""Evaluate a trained network: python stages/evaluate.py TASK SCALE ARM SEED. Writes to reports/SCALE/runs/."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import torch

from diffplast import params, runs, seeds
from diffplast.evaluation import evaluate, thin
from diffplast.training import new_network


def main() -> int:
    """Read and check params, evaluate on held-out episodes, write metrics, thinned curve and examples."""
    run = runs.from_arguments(__doc__)
    try:
        checked = params.load(run.task)
        task = runs.open_task(run, checked)
    except (params.ParamsError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    untrained = new_network(task, run.seed)
    network = new_network(task, run.seed)
    network.load_state_dict(torch.load(run.folder / "weights.pt", map_location=task.device, weights_only=True))
    outcome = json.loads((run.folder / "outcome.json").read_text())
    test = getattr(getattr(checked, run.task).test, run.scale)

    run.results.mkdir(parents=True, exist_ok=True)
    runs.write_json(run.results / "metrics.json", outcome | evaluate(task, network, test, run.seed))
    thin(pd.read_csv(run.folder / "curve.csv")).to_csv(run.results / "curve.csv", index=False)
    with torch.no_grad():
        examples = task.examples(network, untrained, seeds.generator(run.seed, "examples"))
    np.savez_compressed(run.results / "examples.npz", **examples)
    shutil.copyfile(run.folder / "run.json", run.results / "run.json")
    if task.dataset is not None:
        provenance = runs.data_file(task.dataset, run.scale).with_suffix(".json")
        shutil.copyfile(provenance, run.results / "data.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
