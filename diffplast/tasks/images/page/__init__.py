"""The page's words on natural images."""

from diffplast.page.parts import Parts

PARTS = Parts()
