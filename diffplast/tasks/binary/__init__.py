"""The task binary: binary patterns."""
