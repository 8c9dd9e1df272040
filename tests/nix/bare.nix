# A plain NixOS with the upstream modules that the demo profile uses, and nothing of ours: what our
# evaluation is compared with.
{ nixpkgs, sopsNix, root, profile, mode ? "safe", modules ? [ ] }:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = "x86_64-linux";
  modules = [
    (sopsNix + "/modules/sops")
    (nixpkgs + "/nixos/modules/profiles/qemu-guest.nix")
    {
      system.stateVersion = "26.05";
      documentation.enable = false;
      nix.enable = false;
      boot.loader.grub.device = "/dev/vda";
      fileSystems."/" = { device = "/dev/vda1"; fsType = "ext4"; };
      networking.nftables.enable = true;
      networking.useNetworkd = true;
      zramSwap.enable = true;
      sops = {
        defaultSopsFile = "/secrets.yaml";
        validateSopsFiles = false;
        age.keyFile = "/key";
        useSystemdActivation = true;
        secrets.one = { };
      };
      services = {
        openssh.enable = true;
        fail2ban.enable = true;
        nginx.enable = true;
        postgresql.enable = true;
        redis.servers.one = { enable = true; port = 6379; };
        nats = { enable = true; jetstream = true; };
        grafana = { enable = true; settings.security.secret_key = "$__file{/key}"; };
        prometheus = {
          enable = true;
          alertmanager = {
            enable = true;
            configuration = { route.receiver = "one"; receivers = [ { name = "one"; } ]; };
          };
          exporters = {
            node.enable = true;
            postgres.enable = true;
            nginx.enable = true;
            redis.enable = true;
            nats.enable = true;
          };
        };
      };
    }
  ];
}
