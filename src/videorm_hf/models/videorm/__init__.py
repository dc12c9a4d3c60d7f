"""VIDEORM as transformers classes. Flat and closed: these files also travel with a model as remote code."""
