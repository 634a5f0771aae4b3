"""What the series measures against: the ways that its lessons leave behind."""
