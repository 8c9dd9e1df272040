# fail2ban: three failed logins within ten minutes ban an address.
{ config, lib, ... }:
let
  cfg = config.services.rave.fail2ban;
in
{
  options.services.rave.fail2ban = import ../modules/service.nix { inherit config lib; id = "fail2ban"; } // {
    banSeconds = lib.mkOption {
      type = lib.types.ints.positive;
      default = 60;
      description = ''
        How long an address stays banned. Through QEMU's user network every connection comes from one
        address, so a ban meets the operator too: it is short, and established connections go on.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    services.fail2ban = {
      enable = true;
      maxretry = 3;
      bantime = "${toString cfg.banSeconds}";
      jails.sshd.settings = {
        # A refused key counts, not only a refused user; a closed connection or a port scan does not.
        filter = "sshd[mode=normal, publickey=any]";
        findtime = "10m";
      };
    };
  };
}
