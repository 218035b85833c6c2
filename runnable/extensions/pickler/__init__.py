"""The picklers."""
