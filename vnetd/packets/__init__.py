"""Untrusted packets of guests and of what answers them, read for the addresses they tell."""
