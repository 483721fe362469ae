"""Instruments of the bench; one folder an instrument."""
