"""What a configuration file chooses between: one module a plug-in."""
