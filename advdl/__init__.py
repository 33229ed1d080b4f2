"""Deep Learning: Advanced Approaches, as pure Flax modules that train unchanged from a laptop to a TPU pod."""

__version__ = "0.1.0"
