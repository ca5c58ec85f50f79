"""The jobs: a typed spec and the study that it describes. They choose; they hold no logic."""
