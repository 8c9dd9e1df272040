"""The signed record of a run: event chain, statement, signatures and verification."""
