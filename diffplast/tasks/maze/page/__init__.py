"""What moves in the page on the maze: a laboratory, and a player of recorded episodes."""

from diffplast.page.parts import Parts
from diffplast.tasks.maze.findings import animation

from . import lab

PARTS = Parts(laboratory=lab.laboratory, player=animation.episodes)
