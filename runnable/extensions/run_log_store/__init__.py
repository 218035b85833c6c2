"""The run-log stores that a configuration chooses between."""
