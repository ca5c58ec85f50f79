"""The parts of gate `training`."""
