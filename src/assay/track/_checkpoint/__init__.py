"""The parts of `assay.track.checkpoint`. Standard library only; torch and numpy are used if the script loaded them."""
