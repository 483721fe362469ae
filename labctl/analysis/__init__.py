"""Pure functions on recorded tables and waveforms; they know no instrument and change nothing."""
