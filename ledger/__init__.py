"""What credit is and how operations move it: pure, synchronous, deterministic.

Nothing here knows of networks, disks, clocks or HTTP. Time comes in as an argument; the only outputs are values.
"""
