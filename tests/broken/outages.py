"""See the title of this package: here it is outages."""
