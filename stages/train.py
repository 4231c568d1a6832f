"""Train one network: python stages/train.py TASK SCALE ARM SEED. Writes runs/SCALE/TASK/ARM-SEED/."""

import sys

import pandas as pd
import torch

from diffplast import machine, params, runs
from diffplast.checkpoint import Checkpoint, fingerprint
from diffplast.training import Interrupted, train


def main() -> int:
    """Read and check params, train, write weights, curve and what the run cost."""
    run = runs.from_arguments(__doc__)
    try:
        checked = params.load(run.task)
        task = runs.open_task(run, checked)
    except (params.ParamsError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    settings = {"run": str(run), "threads": checked.threads, "device": task.device.type}
    settings |= {"experiment": task.experiment.model_dump(), "settings": task.settings.model_dump()}
    checkpoint = Checkpoint(run.checkpoint, fingerprint(settings))
    try:
        trained = train(task, run.seed, checkpoint, checked.checkpoint_seconds, str(run))
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    if trained.failure is not None:
        print(f"{run} failed: {trained.failure}; its last good network is kept and evaluated", file=sys.stderr)

    run.folder.mkdir(parents=True, exist_ok=True)
    torch.save(trained.network.state_dict(), run.folder / "weights.pt")
    curve = pd.DataFrame(trained.curve, columns=["episode", "metric", "value"])
    names = pd.DataFrame({"task": run.task, "arm": run.arm, "seed": run.seed}, index=curve.index)
    pd.concat([names, curve], axis=1).to_csv(run.folder / "curve.csv", index=False)
    runs.write_json(run.folder / "outcome.json", {"train_episodes": trained.episodes, "failure": trained.failure})
    runs.write_json(run.folder / "run.json", machine.describe(checked.threads, task.device, trained.seconds))
    checkpoint.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
