"""What moves in the page on Omniglot: a laboratory."""

from diffplast.page.parts import Parts

from . import lab

PARTS = Parts(laboratory=lab.laboratory)
