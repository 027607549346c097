"""What people look at: an episode with the values that the agent gave its choices."""
