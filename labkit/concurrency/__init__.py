"""What is set against a cache: every interleaving, a stampede, another client, worker processes."""
