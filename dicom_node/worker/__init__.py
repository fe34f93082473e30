"""What the worker is made of: the stages of a reading, the threads they run on, batches, bounds, and what is saved."""
