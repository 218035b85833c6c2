"""Executors of jobs that a configuration chooses between."""
