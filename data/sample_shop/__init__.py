"""A bookshop that caches its lists in Redis."""
