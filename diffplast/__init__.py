"""Differentiable plasticity (Miconi, Clune, Stanley, ICML 2018): the networks, the four tasks, the evidence."""
