"""A model and a data set in, honest figures out."""
