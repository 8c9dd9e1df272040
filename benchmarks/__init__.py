"""What rave costs. Each program prints one JSON document: p50, p95 and the machine it ran on."""
