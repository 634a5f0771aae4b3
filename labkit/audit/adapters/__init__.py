"""Adapters for the libraries that the audit compares."""
