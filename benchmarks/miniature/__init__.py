"""Training of the weights that the package carries, and their figures: `make miniature`."""
