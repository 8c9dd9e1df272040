# NATS with JetStream. Its one account's password is in the configuration file, so the whole file is a
# template that sops-nix renders into /run/secrets.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.nats;
  inherit (config.rave) facts;
  mebibyte = 1024 * 1024;

  settings = {
    server_name = "rave";
    host = "127.0.0.1";
    port = cfg.ports.client;
    http = "127.0.0.1:${toString cfg.ports.monitor}";
    max_connections = facts.nats.maxConnections;
    max_payload = facts.nats.maxPayloadBytes;
    jetstream = {
      store_dir = "/var/lib/nats";
      max_memory_store = facts.nats.memoryStoreMiB * mebibyte;
      max_file_store = facts.nats.fileStoreMiB * mebibyte;
    };
    authorization.users = [ { user = facts.nats.user; password = config.sops.placeholder."nats/password"; } ];
  };
in
{
  config = lib.mkIf cfg.enable {
    services.nats = {
      enable = true;
      serverName = settings.server_name;
      port = settings.port;
      jetstream = true;
    };

    sops.templates."nats.conf" = {
      content = builtins.toJSON settings;
      owner = "nats";
      restartUnits = [ "nats.service" ];
    };
    security.rave.needs.nats = {
      secrets = [ "nats/password" ];
      templates = [ "nats.conf" ];
    };

    # The module's own file could only hold the password as a literal.
    systemd.services.nats.serviceConfig.ExecStart =
      lib.mkForce "${lib.getExe' pkgs.nats-server "nats-server"} -c ${config.sops.templates."nats.conf".path}";

    # One that runs and does not answer (rave_guest/hung.py): it loses nothing that it has acknowledged.
    systemd.paths.nats-hung = {
      description = "Waits for a NATS that runs and does not answer";
      wantedBy = [ "multi-user.target" ];
      pathConfig.PathExists = "/run/rave/hung/nats";
    };
    systemd.services.nats-hung = {
      description = "Ends a NATS that runs and does not answer";
      serviceConfig = {
        Type = "oneshot";
        # Before, or it would be ended again and again.
        ExecStartPre = "${pkgs.coreutils}/bin/rm -f /run/rave/hung/nats";
        ExecStart = "${config.systemd.package}/bin/systemctl kill --signal=KILL nats.service";
        CapabilityBoundingSet = [ "CAP_KILL" ];
        ReadWritePaths = [ "/run/rave" ];
        PrivateNetwork = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
      };
    };
  };
}
