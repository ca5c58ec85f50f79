"""Work → run."""
