"""What moves in the page on small binary patterns: a laboratory, and the network of the introduction."""

from diffplast.page.parts import Parts

from . import lab, portrait

PARTS = Parts(laboratory=lab.laboratory, portrait=portrait.portrait)
