"""The catalogs beside `do-nothing`, which is in `runnable.catalog`."""
