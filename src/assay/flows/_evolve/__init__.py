"""Parts of the evolve flow."""
