"""Keeps the host as desired: compiles and renders what should be, observes what is, repairs the difference."""
