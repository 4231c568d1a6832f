"""The task omniglot: Omniglot."""
