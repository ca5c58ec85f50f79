"""The page of a training experiment."""
