"""The oscilloscope: driver, dialects of the vendors, simulation."""
