# What the guest's judges need of an evaluated NixOS configuration, as plain data (test_judges.py). Everything
# here is read from upstream's options, not from the plan: the plan is what it is judged by.
{ lib, config, ports ? { } }:
let
  inherit (config) services systemd;
  containers = config.virtualisation.oci-containers.containers;
  inNamespace = container: container.networks != [ ] && lib.all (lib.hasPrefix "ns:") container.networks;
  bridged = lib.filterAttrs (_: container: !inNamespace container) containers;

  words = value: map toString (lib.toList value);
  fileOf = secret: { inherit (secret) mode; owner = if secret.owner == null then "root" else secret.owner; };

  # Who listens, by the option that says so: [ address port ].
  at = address: port: { inherit address port; };
  split = text: let parts = lib.splitString ":" text; in at (lib.head parts) (lib.toInt (lib.last parts));
  sockets = lib.concatMap
    (socket: lib.filter (text: builtins.match "[0-9.]+:[0-9]+" text != null) (words socket.listenStreams))
    # A socket in a namespace of its own is not this machine's.
    (lib.filter (socket: !(socket.socketConfig ? NetworkNamespacePath)) (lib.attrValues systemd.sockets));
  exporters = lib.filterAttrs
    (name: _: lib.elem name [ "nats" "nginx" "node" "postgres" "redis" ])
    services.prometheus.exporters;
  nats = builtins.fromJSON config.sops.templates."nats.conf".content;
  listeners =
    map (at "0.0.0.0") (lib.optionals services.openssh.enable services.openssh.ports)
    ++ lib.concatMap
      (host: map (one: at one.addr one.port) host.listen)
      (lib.optionals services.nginx.enable (lib.attrValues services.nginx.virtualHosts))
    ++ lib.optional services.postgresql.enable (at services.postgresql.settings.listen_addresses services.postgresql.settings.port)
    ++ map (server: at server.bind server.port) (lib.filter (server: server.enable && server.port != 0) (lib.attrValues services.redis.servers))
    ++ lib.optionals services.nats.enable [ (at nats.host nats.port) (split nats.http) ]
    ++ lib.optional services.prometheus.enable (at services.prometheus.listenAddress services.prometheus.port)
    ++ lib.optional services.prometheus.alertmanager.enable
      (at services.prometheus.alertmanager.listenAddress services.prometheus.alertmanager.port)
    ++ map (exporter: at exporter.listenAddress exporter.port) (lib.filter (exporter: exporter.enable) (lib.attrValues exporters))
    # The stage reporter, on its fixed address (exposition.py).
    ++ lib.optional services.prometheus.exporters.node.enable (at "127.0.0.1" 9101)
    ++ lib.optional services.grafana.enable
      (at services.grafana.settings.server.http_addr services.grafana.settings.server.http_port)
    # Gitaly's metrics, fixed in its module.
    ++ lib.optional services.gitlab.enable (at "127.0.0.1" 9236)
    ++ lib.optional services.mattermost.enable (at services.mattermost.host services.mattermost.port)
    ++ lib.concatMap
      (listener: map (address: at address listener.port) listener.bind_addresses)
      (lib.optionals services.matrix-synapse.enable services.matrix-synapse.settings.listeners)
    ++ lib.optionals services.n8n.enable (
      let e = services.n8n.environment; in [
        (at (e.N8N_LISTEN_ADDRESS or "0.0.0.0") e.N8N_PORT)
        (at e.N8N_RUNNERS_BROKER_LISTEN_ADDRESS e.N8N_RUNNERS_BROKER_PORT)
      ]
    )
    # Without a socket it listens on every address.
    ++ lib.optional (services.outline.enable && !lib.hasInfix "--port=/" systemd.services.outline.script)
      (at "0.0.0.0" services.outline.port)
    ++ map split sockets
    ++ lib.concatMap (container: map (text: split (lib.concatStringsSep ":" (lib.take 2 (lib.splitString ":" text)))) container.ports)
      (lib.attrValues containers)
    # Its socket is not connected, and so it waits for whoever writes to it.
    ++ lib.optional services.timesyncd.enable { address = "0.0.0.0"; port = 0; udp = true; };

  account = _: user: {
    inherit (user) name uid;
    password = lib.findFirst (value: value != null) "!" [ user.hashedPassword user.password user.initialHashedPassword user.initialPassword ];
    file = user.hashedPasswordFile;
  };
  limits = service: { MemoryMax = service.serviceConfig.MemoryMax or null; };
in
{
  inherit (config.rave) plan guestPlan;
  inherit listeners;
  sudoers = config.security.sudo.configFile;
  sysctl = lib.filterAttrs (_: value: value != null) config.boot.kernel.sysctl;
  sshd = services.openssh.settings;
  accounts = lib.mapAttrs account config.users.users;
  nftables = lib.mapAttrs (_: table: { inherit (table) family content; }) (lib.filterAttrs (_: table: table.enable) config.networking.nftables.tables);
  jail = {
    inherit (services.fail2ban) maxretry bantime;
    action = services.fail2ban.jails.sshd.settings.action or services.fail2ban.banaction;
  };
  network = {
    links = map (network: network.matchConfig.Name) (lib.attrValues systemd.network.networks);
    bridges = lib.optional (bridged != { }) "podman0";
    addresses = lib.concatMap (network: network.address) (lib.attrValues systemd.network.networks)
      ++ lib.optional (bridged != { }) "10.88.0.1/16";
    gateways = lib.concatMap (network: network.gateway) (lib.attrValues systemd.network.networks);
  };
  secrets = lib.mapAttrs (_: fileOf) config.sops.secrets;
  templates = lib.mapAttrs (_: template: fileOf template // { inherit (template) content path; }) config.sops.templates;
  placeholders = lib.mapAttrs (name: _: config.sops.placeholder.${name}) config.sops.secrets;
  memoryOnly = { inherit (config.sops) useTmpfs; swap = config.zramSwap.enable || config.swapDevices != [ ]; };
  units = lib.mapAttrs (_: limits) systemd.services;
  restarts = lib.mapAttrs
    (_: service: {
      type = service.serviceConfig.Type or "simple";
      restart = service.serviceConfig.Restart or "no";
      seconds = toString (service.serviceConfig.RestartSec or "100ms");
    })
    systemd.services;
  # What a process gets in its environment: files, and what its script exports.
  environments = lib.mapAttrs
    (_: service: {
      files = words (service.serviceConfig.EnvironmentFile or [ ]);
      credentials = words (service.serviceConfig.LoadCredential or [ ]);
      inherit (service) script environment;
      slice = service.serviceConfig.Slice or "system.slice";
    })
    systemd.services;
  containers = lib.mapAttrs
    (_: container: {
      files = container.environmentFiles;
      options = toString container.extraOptions;
      inherit (container) environment;
    })
    containers;
  # Where upstream's modules write secrets, by the option that makes them.
  written = {
    redis = lib.filterAttrs (_: file: file != null)
      (lib.mapAttrs (_: server: server.requirePassFile) (lib.filterAttrs (_: server: server.enable) services.redis.servers));
    gitlab = if !services.gitlab.enable then null else {
      place = "${services.gitlab.statePath}/config";
      files = lib.attrValues { inherit (services.gitlab) databasePasswordFile; }
        ++ lib.filter (lib.hasPrefix "/run/secrets/") (map toString (lib.attrValues (removeAttrs services.gitlab.secrets [ "_module" ])));
    };
    n8n = if !services.n8n.enable then null else services.n8n.environment.N8N_ENCRYPTION_KEY_FILE;
  };
  tmpfs = lib.attrNames (lib.filterAttrs (_: system: system.fsType == "tmpfs") config.fileSystems);
  postgresql = {
    inherit (services.postgresql.package) version;
    inherit (services.postgresql) ensureDatabases;
    users = map (user: { inherit (user) name ensureDBOwnership ensureClauses; }) services.postgresql.ensureUsers;
    encryption = services.postgresql.settings.password_encryption;
  };
  redis = services.redis.servers.rave.settings.maxmemory;
  nats = { jetstream = nats ? jetstream; users = map (user: user.user) nats.authorization.users; };
  rules = map builtins.fromJSON services.prometheus.rules;
  scraped = lib.concatMap (job: lib.concatMap (one: one.targets) job.static_configs) services.prometheus.scrapeConfigs;
  retention = services.prometheus.retentionTime;
  tls = services.nginx.sslProtocols;
  store = { inherit (systemd.tmpfiles.settings."10-rave"."/var/lib/rave/secrets".d) mode user; };
}
