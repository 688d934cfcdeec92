"""The frameworks of the survey."""
