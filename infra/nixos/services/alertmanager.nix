# Alertmanager. A receiver outside the machine is the operator's to add; by itself it keeps alerts for
# its API and Grafana.
{ config, lib, ... }:
let
  cfg = config.services.rave.alertmanager;
in
{
  options.services.rave.alertmanager = import ../modules/service.nix { inherit config lib; id = "alertmanager"; } // {
    receivers = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.anything);
      default = [ { name = "platform"; } ];
      description = "Receivers in Alertmanager's own form; alerts go to the first.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.prometheus.alertmanager = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.web;
      extraFlags = [ "--cluster.listen-address=" ];
      configuration = {
        route = {
          receiver = (lib.head cfg.receivers).name;
          group_by = [ "alertname" "service" ];
          group_wait = "1s";
          group_interval = "10s";
          repeat_interval = "4h";
        };
        receivers = cfg.receivers;
      };
    };
  };
}
