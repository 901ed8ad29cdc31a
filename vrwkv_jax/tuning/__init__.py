"""Tunes a video U-Net on one clip."""
