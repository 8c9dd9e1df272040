# Alertmanager. A receiver outside the machine is the operator's to add; by itself it keeps alerts for
# its API and Grafana.
{ config, lib, ... }:
let
  cfg = config.services.rave.alertmanager;
  inherit (config.rave) facts;
in
{
  options.services.rave.alertmanager = {
    receivers = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.anything);
      default = facts.alertmanager.receivers;
      defaultText = lib.literalExpression ''[ { name = "platform"; } ]'';
      description = "Receivers in Alertmanager's own form; alerts go to the first.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.prometheus.alertmanager = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.web;
      extraFlags = [ "--cluster.listen-address=" ];
      configuration = facts.alertmanager // {
        inherit (cfg) receivers;
        route = facts.alertmanager.route // { receiver = (lib.head cfg.receivers).name; };
      };
    };
  };
}
