# fail2ban: a few failed logins within some minutes ban an address.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.fail2ban;
  inherit (config.rave) facts;
  files = ../../guest/fail2ban;

  # At its start fail2ban reads the journal's last minutes. Bans end with the boot they were made in, so
  # tries of an earlier one must not count: a reboot would bring back a ban that had been lifted.
  thisBoot = pkgs.writeShellScript "rave-fail2ban" ''
    set -eu
    ${pkgs.coreutils}/bin/mkdir -p /run/rave
    read -r boot </proc/sys/kernel/random/boot_id
    printf '[Definition]\njournalmatch = _SYSTEMD_UNIT=sshd.service _BOOT_ID=%s\n' "''${boot//-/}" >/run/rave/fail2ban.conf
  '';
in
{
  options.services.rave.fail2ban.banSeconds = lib.mkOption {
    type = lib.types.ints.positive;
    default = (import ../../catalog).facts.banSeconds;
    description = ''
      How long an address stays banned. Through QEMU's user network every connection comes from one
      address, so a ban meets the operator too: it is short, and established connections go on.
    '';
  };

  config = lib.mkIf cfg.enable {
    rave.facts.banSeconds = cfg.banSeconds;

    services.fail2ban = {
      enable = true;
      maxretry = facts.failedLogins;
      bantime = toString facts.banSeconds;
      jails.DEFAULT.settings = {
        # The own addresses would be looked up by name, where no name server answers.
        ignoreself = false;
        usedns = "no";
      };
      jails.sshd.settings = {
        filter = "rave-sshd";
        action = "rave[name=%(__name__)s]";
        findtime = facts.findSeconds;
      };
      # Bans live in the kernel and end with the boot they were made in.
      daemonSettings.Definition.dbfile = "None";
    };
    environment.etc = {
      "fail2ban/filter.d/rave-sshd.conf".source = files + "/rave-sshd.conf";
      "fail2ban/action.d/rave.conf".source = files + "/rave.conf";
    };

    # The set that the action fills. Established connections go on: whoever is in may lift a ban.
    networking.nftables = {
      enable = true;
      tables.rave = {
        family = "inet";
        content = ''
          set banned {
            type ipv4_addr
            flags timeout
          }
          chain input {
            type filter hook input priority filter - 1; policy accept;
            ct state established,related accept
            ip saddr @banned drop
          }
        '';
      };
    };

    systemd.services.fail2ban = {
      after = [ "rave-early.service" ];
      # Outside its sandbox, where it may not write.
      serviceConfig = { ExecStartPre = "+${thisBoot}"; Restart = "on-failure"; RestartSec = 1; };
    };
  };
}
