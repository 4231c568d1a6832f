"""What every run needs, whatever its task: parameters, the contract of a task, the training loop, checkpoints.

DVC takes this folder as one dependency of every stage, since an edit of any file here makes every run anew. What only
evaluation, figures or report use is outside.
"""
