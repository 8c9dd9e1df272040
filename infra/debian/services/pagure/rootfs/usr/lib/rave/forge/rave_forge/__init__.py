"""What serves Pagure in the guest, beside Debian's packages of it and of what it needs."""
