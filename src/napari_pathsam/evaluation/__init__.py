"""A model and a data set → a report: simulated clicks, counted and timed."""
