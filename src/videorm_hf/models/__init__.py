"""Models and the conversion of published checkpoints into them."""
