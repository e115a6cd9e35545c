"""Throughput beside loops written by hand: ``make bench``."""
