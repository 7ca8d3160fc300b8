"""The main job, shown on a real kernel in throwaway namespaces: ``./run``."""
