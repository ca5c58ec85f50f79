"""Append-only events, the evidence beside them, and all that is derived from both."""
