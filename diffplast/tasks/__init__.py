"""The experiments of the paper, a folder each; `diffplast.core.registry` lists them."""
