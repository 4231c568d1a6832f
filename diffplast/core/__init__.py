"""What every run needs, whatever its task: parameters, the contract of a task, the training loop, checkpoints.

DVC takes this folder as one dependency of every run: an edit of any file here trains every network again. What only
evaluation, figures or report use is elsewhere.
"""
