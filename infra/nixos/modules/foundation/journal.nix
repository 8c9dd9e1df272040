# Event logs: bounded in size and age, by mode.
{ config, ... }:
let
  inherit (config.rave) mode facts;
  inherit (facts) journal;
in
{
  services.journald = {
    storage = "persistent";
    extraConfig = ''
      SystemMaxUse=${toString journal.sizeMiB.${mode}}M
      RuntimeMaxUse=32M
      MaxRetentionSec=${toString journal.days.${mode}}day
      Compress=yes
      Audit=no
    '';
  };
  services.logrotate.enable = true;
  systemd.coredump.settings.Coredump.Storage = "none";
}
