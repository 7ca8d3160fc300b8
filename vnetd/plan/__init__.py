"""Desired and observed state in kernel terms, and the pure functions that turn their difference into steps."""
