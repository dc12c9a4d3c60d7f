"""VIDEORM on ImageReward: the paper's variant beta."""
