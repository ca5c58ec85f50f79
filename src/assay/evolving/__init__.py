"""Evolving: which text is tried next, which one is kept, and which one is picked. All follows from answers."""
