"""Trains the small model that the package ships, on the rendered world."""
