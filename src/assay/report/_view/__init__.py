"""The parts of the HTML report's view: plain typed data out of a history and its documents."""
