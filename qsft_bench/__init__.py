"""qsft-bench: an offline-RL benchmark suite for language-model, vision and robot agents."""

__version__ = "0.1.0"
