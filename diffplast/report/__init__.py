"""What is made of results: claims, figures and the page. Nothing here is used by training."""
