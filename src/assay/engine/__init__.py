"""The loops: one for a trial, one for a study. They see ports and gates only as arguments."""
