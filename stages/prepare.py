"""Prepare a data set: python -m stages.prepare KIND SCALE. Writes data/SCALE/KIND/."""

import sys

from diffplast import data
from diffplast.core import params, runs


@runs.report_user_errors(after_interrupt="the same command runs it again, and a download resumes where it stopped")
def main(arguments: list[str]) -> None:
    """Read and check params, prepare the set that params.yaml chooses, write it with its provenance."""
    if len(arguments) != 2 or arguments[0] not in data.DATA_SETS:
        sys.exit(__doc__)
    kind, scale = arguments[0], params.known_scale(arguments[1])
    checked = params.load()
    name = getattr(checked.datasets, kind)
    options = dict(getattr(getattr(checked.data, kind), name))
    folder = runs.data_folder(kind, scale)
    folder.mkdir(parents=True, exist_ok=True)
    with runs.writing_to(folder):
        provenance = data.prepare(kind, name, options, folder / "data.npz")
        runs.write_json(folder / "source.json", provenance)


if __name__ == "__main__":
    main(sys.argv[1:])
