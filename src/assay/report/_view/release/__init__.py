"""The page of a release study, and of every study that has no page of its own."""
