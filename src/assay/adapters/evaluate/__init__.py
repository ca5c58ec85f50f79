"""Target → evidence."""
