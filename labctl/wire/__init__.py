"""Sans-IO codecs, one for both ends: bytes in, events out, no waiting."""
