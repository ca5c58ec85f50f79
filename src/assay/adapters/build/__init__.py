"""Candidate → artifact on disk."""
