"""The page that shows a scale's results, with what only it and the README need."""
