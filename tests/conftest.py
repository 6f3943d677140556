"""Puts this folder on the path of imports, so that all tests can use its modules."""
