"""Files → evidence, read-only."""
