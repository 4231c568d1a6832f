"""What every run needs, whatever its task: parameters, the contract of a task, the training loop, checkpoints.

DVC takes this folder as one dependency of every run: an edit of any file here trains every network again. What only
evaluation, figures or report use is elsewhere.
"""

import os

# Read when torch is imported. Torch's idle threads spin for milliseconds before they sleep, on the cores that the
# compiled loops run on meanwhile: with two threads that takes an eighth to a fifth of a training episode of the large
# networks. Not for those who use the layer alone: loops of many small operations of torch get slower, the naive
# recurrence by 14 to 31 %.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
