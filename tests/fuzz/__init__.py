"""Damaged and malicious bytes for everything that clesr reads from outside: README.md."""
