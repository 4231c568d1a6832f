"""What the report shows of the task: claims, figures, page text."""
