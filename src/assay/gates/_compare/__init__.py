"""Parts of the compare gate."""
