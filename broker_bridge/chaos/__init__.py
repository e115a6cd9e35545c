"""Faults on real parts: a private stack, workers as processes, one fault at a time, and a verdict on what came of
it."""
