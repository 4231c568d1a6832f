"""Prepare a data set: python -m stages.download KIND SCALE. Writes data/SCALE/KIND.npz and its provenance."""

import sys

from diffplast import data
from diffplast.core import params, runs


def main() -> int:
    """Read and check params, prepare the set that params.yaml chooses, write it with its provenance."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    kind, scale = sys.argv[1:]
    try:
        checked = params.load(task="")
        name = getattr(checked.datasets, kind)
        provenance = data.prepare(kind, name, checked.data[kind][name], runs.data_file(kind, scale))
    except (params.ParamsError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run again, and a download goes on where it stopped", file=sys.stderr)
        return 130
    runs.write_json(runs.data_file(kind, scale).with_suffix(".json"), provenance)
    return 0


if __name__ == "__main__":
    sys.exit(main())
