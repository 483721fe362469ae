"""labctl: a lab controller for memristor-and-neuron chips."""

__version__ = "0.1.0"
