"""It serves one model, in the model's own environment, with no panel code around it."""

__version__ = "1.0.0"
