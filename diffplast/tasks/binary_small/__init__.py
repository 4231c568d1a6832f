"""The task binary_small: small binary patterns."""
