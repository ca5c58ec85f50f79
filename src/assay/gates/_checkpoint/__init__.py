"""The checks of the checkpoint gate, one question a file. Pure: evidence in, findings out."""
