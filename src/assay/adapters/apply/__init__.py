"""Bring an accepted artifact to its target."""
