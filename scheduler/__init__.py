"""The scheduler process: ticks, and the control tasks that they start."""
