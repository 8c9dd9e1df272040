"""What the services do with the domain, over the ports that adapters fill."""
