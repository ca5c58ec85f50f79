"""Pure judges: one policy and one function from evidence to a verdict a file."""
