"""The command line: one module a group of commands; what they need is imported inside them."""
