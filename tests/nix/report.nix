# What the tests ask of an evaluated configuration, as plain data.
{ lib, config }:
let
  services = config.systemd.services;
  texts = service: lib.concatStringsSep "\n" (
    [ service.preStart service.script service.postStart ]
    ++ lib.mapAttrsToList (name: value: "${name}=${toString value}") (lib.filterAttrs (_: value: value != null) service.environment)
    ++ lib.mapAttrsToList (name: value: "${name}=${words value}") service.serviceConfig
  );
  words = value: if lib.isList value then lib.concatMapStringsSep " " toString value else if lib.isBool value then lib.boolToString value else toString value;
  paths = text: map lib.head (lib.filter lib.isList (builtins.split "(/run/secrets/[A-Za-z0-9_./-]+)" text));
  conditions = service: lib.toList (service.unitConfig.ConditionPathExists or [ ]);
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.rave) plan profile mode;
  secrets = lib.mapAttrs (_: secret: { inherit (secret) path owner mode restartUnits; }) config.sops.secrets;
  templates = lib.mapAttrs (_: template: { inherit (template) path content; }) config.sops.templates;
  # This also renders each text, so nothing lazy stays unlooked at.
  used = lib.mapAttrs (_: service: lib.unique (paths (texts service) ++ conditions service)) services;
  texts = lib.mapAttrs (_: texts) services;
  order = lib.mapAttrs (_: service: { inherit (service) after before requires; }) services;
  limits = lib.mapAttrs
    (_: service: {
      max = service.serviceConfig.MemoryMax or null;
      high = service.serviceConfig.MemoryHigh or null;
      oom = service.serviceConfig.OOMScoreAdjust or null;
    })
    services;
  slices = lib.mapAttrs (_: slice: slice.sliceConfig.MemoryMax or null) config.systemd.slices;
  ports = config.networking.firewall.allowedTCPPorts;
  virtualHosts = lib.attrNames config.services.nginx.virtualHosts;
  scraped = map (job: job.job_name) config.services.prometheus.scrapeConfigs;
  retention = config.services.prometheus.retentionTime;
  databases = config.services.postgresql.ensureDatabases;
  roles = map (user: user.name) config.services.postgresql.ensureUsers;
  needs = lib.attrNames config.security.rave.needs;
  ageKeyFile = config.sops.age.keyFile or null;
  sopsFile = toString (config.sops.defaultSopsFile or "");
}
