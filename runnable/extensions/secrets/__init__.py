"""The secrets services beside `do-nothing`, which is in `runnable.secrets`."""
