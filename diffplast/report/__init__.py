"""What is made of results: claims and figures. Nothing here is used by training."""
