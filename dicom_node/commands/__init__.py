"""The commands of `wetread` that people run by hand, a file for each subject. Heavy imports belong inside the functions."""
