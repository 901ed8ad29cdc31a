"""Clips of any length, a few frames at a time."""
