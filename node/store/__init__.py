"""Where a region keeps what it must not forget: ordered keys, snapshot reads, atomic durable batches."""
