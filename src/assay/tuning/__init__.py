"""The search of a tuning study: from what the launches showed to the next launch and to the answer. Pure."""
