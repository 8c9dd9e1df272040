# Prometheus: scrapes every service of the plan that has metrics, and judges the alert rules.
{ config, lib, ... }:
let
  cfg = config.services.rave.prometheus;
  inherit (config.rave) plan mode facts;

  scraped = lib.filterAttrs (_: service: service.scrape != null) plan.services;
  job = name: scrape: {
    job_name = name;
    metrics_path = scrape.path;
    honor_labels = scrape.honorLabels or false;
    static_configs = [
      { targets = map (port: "127.0.0.1:${toString port}") ([ scrape.port ] ++ scrape.also or [ ]); labels.service = name; }
    ];
  } // lib.optionalAttrs (scrape ? interval) { scrape_interval = scrape.interval; };
  # Of one service: its own, and of what it has asked more often.
  jobs = name: { scrape, ... }: [ (job name scrape) ]
    ++ lib.optional (scrape ? often) (job scrape.often.job (scrape // scrape.often));
in
{
  options.services.rave.prometheus = {
    retentionDays = lib.mkOption {
      type = lib.types.ints.positive;
      default = (import ../../catalog).facts.retentionDays.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 3 or 7";
      description = "Days that metrics are kept.";
    };
    alerts = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.anything);
      default = [ ];
      description = "Further alert rules, in Prometheus' own form.";
    };
  };

  config = lib.mkIf cfg.enable {
    rave.facts.retentionDays.${mode} = cfg.retentionDays;

    services.prometheus = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.web;
      retentionTime = "${toString cfg.retentionDays}d";
      extraFlags = [ "--storage.tsdb.retention.size=${facts.prometheus.retentionSize}" "--log.level=warn" ];
      globalConfig = facts.prometheus.global;
      scrapeConfigs = lib.concatLists (lib.mapAttrsToList jobs scraped);
      rules = [ (builtins.toJSON { groups = [ { name = "rave"; rules = facts.alerts ++ cfg.alerts; } ]; }) ];
      alertmanagers = lib.optional (plan.services ? alertmanager) {
        static_configs = [ { targets = [ "127.0.0.1:${toString config.services.rave.alertmanager.ports.web}" ]; } ];
      };
    };
  };
}
