"""Parts of the checks of a suite."""
