"""Frozen values that say what a user wants: networks, filters, ports, and the errors about them."""
