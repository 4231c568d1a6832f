"""Prepare a data set: python -m stages.download KIND SCALE. Writes data/SCALE/KIND.npz and its provenance."""

import sys

from diffplast import data
from diffplast.core import params, runs


@runs.errors_told(after_interrupt="the same command runs it again, and a download goes on where it stopped")
def main() -> None:
    """Read and check params, prepare the set that params.yaml chooses, write it with its provenance."""
    if len(sys.argv) != 3 or sys.argv[1] not in data.DATA_SETS:
        sys.exit(__doc__)
    kind, scale = sys.argv[1:]
    checked = params.load(task="")
    name = getattr(checked.datasets, kind)
    path = runs.data_file(kind, scale)
    provenance = data.prepare(kind, name, checked.data[kind][name], path)
    with runs.writing_to(path.parent):
        runs.write_json(path.with_suffix(".json"), provenance)


if __name__ == "__main__":
    main()
