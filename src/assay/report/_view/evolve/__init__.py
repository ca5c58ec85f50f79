"""The page of a study of texts."""
