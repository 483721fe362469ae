"""Device, array and neuron models: numpy in, numpy out; no protocol and no wire in here."""
