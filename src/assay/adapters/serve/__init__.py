"""Artifact → endpoint."""
