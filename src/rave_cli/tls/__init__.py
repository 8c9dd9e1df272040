"""Certificates: rave's own authorities, what they issue, and what is made of somebody else's."""
