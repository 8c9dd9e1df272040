"""Where an agent meets the world: its ledger, the stream, and what writes files."""
