"""Images with the real Nix, apt, qemu-img and e2fsprogs."""
