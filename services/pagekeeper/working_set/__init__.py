"""Working set service: turns, admitted faults, pins, importance, and the working sets of the past."""
