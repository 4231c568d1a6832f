"""What training and evaluation run: network, episodes, loss."""
