"""Parts of the results gate."""
