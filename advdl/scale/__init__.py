"""Many devices: which there are, and what a step would cost on some that are not there."""
