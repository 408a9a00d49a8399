"""Replication: how entries are stamped, ordered, sent and trusted. Pure and synchronous.

Time, disk and network come in as arguments and go out as values, so that the same code runs in a node and in the
simulator.
"""
