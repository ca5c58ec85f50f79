"""The nine nouns and what they are made of. Pure: no I/O, no clock, nothing of ours is imported from elsewhere."""
