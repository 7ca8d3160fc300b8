"""Use cases: what a front end can ask for. Knows nothing of D-Bus."""
