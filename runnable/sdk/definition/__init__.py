"""Pipelines as YAML: which keys a step has, read into the SDK's steps, and written again."""
