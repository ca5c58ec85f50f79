"""What an engine needs for a model: the calibrated table, the parts, the sum. Pure."""
