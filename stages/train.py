"""Train one network: python -m stages.train TASK SCALE ARM-SEED. Writes runs/SCALE/TASK/ARM-SEED/."""

import sys

import pandas as pd

from diffplast.core import dataset, machine, params, runs
from diffplast.core.checkpoint import Checkpoint, fingerprint, to_bytes
from diffplast.core.training import Interrupted, train


@runs.report_user_errors()
def main(arguments: list[str]) -> None:
    """Read and check params, train, write weights, curve and what the run cost."""
    run = runs.parse_run(arguments, __doc__)
    checked = params.load(run.task)
    task = runs.open_task(run, checked)
    run.folder.mkdir(parents=True, exist_ok=True)
    parameters = {"experiment": task.experiment.model_dump(), "settings": task.settings.model_dump()}
    settings = {"run": str(run), "device": task.device.type} | parameters
    data = [] if task.dataset is None else [runs.data_folder(task.dataset, run.scale) / "data.npz"]
    checkpoint = Checkpoint(run.checkpoint, fingerprint(settings, data))
    try:
        trained = train(
            task,
            run.seed,
            checkpoint=checkpoint,
            save_every=checked.checkpoint_seconds,
            label=str(run),
            live=run.live,
        )
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    if trained.failure is not None:
        kept = f"its last good network is kept in {run.folder} and evaluated"
        print(f"{run} failed: {trained.failure}; {kept}", file=sys.stderr)

    # The checkpoint stays until evaluation: DVC takes over what is written here only after this script has ended.
    with runs.writing_to(run.folder):
        (run.folder / "weights.pt").write_bytes(to_bytes(trained.network.state_dict()))
        curve = pd.DataFrame(trained.curve, columns=["episode", "metric", "value"])
        names = pd.DataFrame({"task": run.task, "arm": run.arm, "seed": run.seed}, index=curve.index)
        pd.concat([names, curve], axis=1).to_csv(run.folder / "curve.csv", index=False)
        runs.write_json(run.folder / "outcome.json", {"train_episodes": trained.episodes, "failure": trained.failure})
        # With its settings and checks, so that it can be replayed when params.yaml says something else.
        checks = {
            "data_sha256": None if task.data is None else dataset.fingerprint(task.data),
            "parameters_sha256": {str(episode): value for episode, value in trained.fingerprints},
        }
        runs.write_json(run.folder / "run.json", machine.describe(task.device, trained.seconds) | parameters | checks)


if __name__ == "__main__":
    main(sys.argv[1:])
