"""Tuning the video U-Net on one clip: ``python -m train.tune``."""
