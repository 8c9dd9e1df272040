# What the NixOS base renders of the facts, as plain data; tests/nix/agreed.py puts all sources in one form.
{ lib, config }:
let
  inherit (config.rave) plan;
  # The processes of a socket are those of the service that it starts.
  processes = lib.replaceStrings [ ".socket" ] [ ".service" ];
  units = service: map (lib.removeSuffix ".service") (lib.filter (lib.hasSuffix ".service") (map processes service.units));
  limits = unit: let c = config.systemd.services.${unit}.serviceConfig; in {
    max = c.MemoryMax;
    high = c.MemoryHigh;
    oom = c.OOMScoreAdjust;
    slack = c.TimerSlackNSec or "";
  };
  redis = config.services.redis.servers.rave;
  vhosts = config.services.nginx.virtualHosts;
  nats = builtins.fromJSON config.sops.templates."nats.conf".content;
in
{
  sysctl = lib.mapAttrs (name: _: config.boot.kernel.sysctl.${name}) plan.facts.sysctl;
  sudo = config.security.sudo.extraConfig;
  sshd = lib.mapAttrs (name: _: config.services.openssh.settings.${name}) plan.facts.sshd;
  rules = config.services.prometheus.rules;
  alertmanager = config.services.prometheus.alertmanager.configuration;
  prometheus = {
    inherit (config.services.prometheus) globalConfig retentionTime extraFlags scrapeConfigs;
  };
  redis = redis.settings // { appendonly = redis.appendOnly; };
  postgresql = lib.filterAttrs (_: value: value != null) config.services.postgresql.settings;
  nginx = {
    inherit (config.services.nginx) appendHttpConfig clientMaxBodySize;
    status = vhosts.status.extraConfig;
  };
  fail2ban = {
    inherit (config.services.fail2ban) maxretry bantime;
    inherit (config.services.fail2ban.jails.sshd.settings) findtime;
  };
  journal = config.services.journald.extraConfig;
  inherit nats;
  network = {
    inherit (config.networking) nameservers;
    inherit (config.systemd.network.networks."10-user") address gateway;
  };
  limits = lib.mapAttrs (_: service: lib.genAttrs (units service) limits) plan.services;
}
