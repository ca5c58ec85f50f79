"""Parts of the gates `deploy` and `preflight`: contract, accounting of runs, tests, plans, and the source's rule."""
