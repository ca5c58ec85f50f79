"""Judging a run while it trains: tail, window, rules, checker, alerts. Imports core and numpy, never torch."""
