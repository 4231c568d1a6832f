"""The pipeline with as many stages at a time as there are cores, or on other machines: python -m diffplast.parallel."""
