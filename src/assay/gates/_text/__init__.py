"""Parts of the text gate."""
