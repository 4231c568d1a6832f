"""The task images: natural images."""
