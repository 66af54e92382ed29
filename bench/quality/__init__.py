"""What the memory's decisions are worth, each figure beside its baselines in the same run."""
