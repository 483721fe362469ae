"""Measurement protocols, one module each, and the command line made from their declarations."""
