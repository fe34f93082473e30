"""From a stored file to the picture a person would see: which frames, decoding, values, window."""
