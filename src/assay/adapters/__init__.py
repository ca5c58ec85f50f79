"""Adapters: one kind, one file; the file name is the kind. See `core.ports` for what each verb asks."""
