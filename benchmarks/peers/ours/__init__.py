"""The bare limit and this project, in the environment that the command runs in."""
