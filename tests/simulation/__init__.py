"""The simulator: whole clusters in one thread, of the code that runs in production, under every fault that we know.

Real are the region with ledger, replication, conflict, codec and store logic; simulated are the scheduler, the network,
the disks, the clocks and the clients. Nothing here reads a wall clock or draws from a generator that the seed did not
make, so one integer names a whole run.
"""
