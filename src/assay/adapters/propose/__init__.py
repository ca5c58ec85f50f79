"""History → next candidate."""
