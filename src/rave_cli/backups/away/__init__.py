"""A copy of the folder of backups in another place, over SFTP or with S3 (docs/adr/0062)."""
