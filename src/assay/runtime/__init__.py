"""Processes, files and readiness: the floor between the pure core and whatever touches the machine."""
