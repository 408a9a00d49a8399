"""What other programs import to use a creditmesh cluster: the client, the wire schema, and a job-trace replay."""
