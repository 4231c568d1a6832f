"""The page's words on binary patterns."""

from diffplast.page.parts import Parts

PARTS = Parts()
