"""The task maze: the maze."""
