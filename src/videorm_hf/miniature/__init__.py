"""A small world with ground truth: clips rendered from known scenes, prompts about them, and a judge that measures."""
