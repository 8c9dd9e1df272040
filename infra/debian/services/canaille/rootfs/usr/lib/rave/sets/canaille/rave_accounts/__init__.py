"""What serves Canaille in the guest. It lies in Canaille's set, and sees nothing but that."""
