# Event logs: bounded in size, and kept for a week in safe mode, a month in full.
{ config, ... }:
let
  kept = { safe = { size = "256M"; days = 7; }; full = { size = "1G"; days = 30; }; }.${config.rave.mode};
in
{
  services.journald = {
    storage = "persistent";
    extraConfig = ''
      SystemMaxUse=${kept.size}
      RuntimeMaxUse=32M
      MaxRetentionSec=${toString kept.days}day
      Compress=yes
      Audit=no
    '';
  };
  services.logrotate.enable = true;
  systemd.coredump.settings.Coredump.Storage = "none";
}
