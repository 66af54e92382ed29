"""What is resident and why: turns, faults admitted, pins, importance, and the working sets of the past."""
