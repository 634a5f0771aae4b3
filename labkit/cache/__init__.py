"""The caches of the series, from the first decorator to the last."""
