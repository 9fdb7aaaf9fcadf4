"""Plays the main path on real data, through the same doors that people and CI use."""
