"""VIDEOPREFER: prompts with rated candidate videos, as items, as preference pairs, and as published data sets."""
