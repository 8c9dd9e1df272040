# Penpot: design, as the project's own OCI images, because nixpkgs does not package its server.
#
# The three containers share one network namespace. Out of it they reach two things on this machine and
# nothing else: PostgreSQL and a Redis of their own, each through a proxy on the bridge's address.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.penpot;
  inherit (config.rave) url;

  # The bridge of podman's default network.
  bridge = { interface = "podman0"; address = "10.88.0.1"; };
  postgresql = config.services.rave.postgresql.ports.postgresql;
  redis = { port = 6380; socket = config.services.redis.servers.penpot.unixSocket; };

  # Digests, not tags: what runs is what was chosen.
  images = {
    frontend = "docker.io/penpotapp/frontend:2.17.0@sha256:861989dfff50f12b9de1358c6b0f3cc1e601d7a678db2826f3643d0f93438500";
    backend = "docker.io/penpotapp/backend:2.17.0@sha256:471cdebf185be899ef7d7593e9cd7994b908ebd7ffb78ca547e3d843bb83536f";
    exporter = "docker.io/penpotapp/exporter:2.17.0@sha256:7e8beb6ef2bdb9d778e9bbcbf7feebf8c99a137b2d9eb3969450c0a1a49e41c5";
  };
  shares = { frontend = 10; backend = 65; exporter = 25; };

  # conmon puts a container into a scope of its own, so the unit's cap would not reach it.
  capped = part: [ "--memory=${toString (cfg.memoryMiB * shares.${part} / 100)}m" "--memory-swap=-1" ];
  assets = "/var/lib/penpot/assets:/opt/data/assets";
  flags = lib.concatStringsSep " " [
    "enable-login-with-password" "disable-registration" "disable-email-verification"
  ];
  common = {
    PENPOT_PUBLIC_URI = url "penpot";
    PENPOT_REDIS_URI = "redis://${bridge.address}:${toString redis.port}/0";
  };

  container = part: more: {
    image = cfg.images.${part};
    imageFile = cfg.imageFiles.${part};
    pull = "missing";
    extraOptions = capped part ++ [ "--security-opt=no-new-privileges" ];
    environmentFiles = [ config.sops.templates."penpot.env".path ];
  } // more;
  inFrontend = { dependsOn = [ "penpot-frontend" ]; networks = [ "container:penpot-frontend" ]; };

  proxy = name: listen: target: group: {
    sockets."penpot-${name}" = {
      description = "Penpot's way to ${name}";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ "${bridge.address}:${toString listen}" ];
      # The bridge appears with the first container.
      socketConfig.FreeBind = true;
    };
    services."penpot-${name}" = {
      description = "Penpot's way to ${name}";
      requires = [ "penpot-${name}.socket" ];
      after = [ "penpot-${name}.socket" ];
      serviceConfig = {
        Type = "notify";
        ExecStart = "${config.systemd.package}/lib/systemd/systemd-socket-proxyd ${target}";
        DynamicUser = true;
        SupplementaryGroups = lib.mkIf (group != null) [ group ];
        PrivateTmp = true;
        ProtectSystem = "strict";
        NoNewPrivileges = true;
      };
    };
  };
  toPostgresql = proxy "postgresql" postgresql "127.0.0.1:${toString postgresql}" null;
  toRedis = proxy "redis" redis.port redis.socket "redis-penpot";
in
{
  options.services.rave.penpot = import ../modules/service.nix { inherit config lib; id = "penpot"; } // {
    images = lib.mapAttrs
      (part: image: lib.mkOption {
        type = lib.types.strMatching ".+@sha256:[0-9a-f]{64}";
        default = image;
        description = "Image of Penpot's ${part}, by digest.";
      })
      images;
    imageFiles = lib.mapAttrs
      (part: _: lib.mkOption {
        type = lib.types.nullOr lib.types.package;
        default = null;
        description = ''
          Archive of Penpot's ${part} (`dockerTools.pullImage`). Without it the image is fetched when the
          service first starts, which an isolated machine cannot do.
        '';
      })
      images;
  };

  config = lib.mkIf cfg.enable {
    rave.ingress.penpot = {
      title = "Penpot";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
      maxBodySize = "350m";
    };
    rave.databases.penpot.units = [ "podman-penpot-backend.service" ];

    sops.templates."penpot.env" = {
      content = ''
        PENPOT_SECRET_KEY=${config.sops.placeholder."penpot/secret-key"}
        PENPOT_DATABASE_PASSWORD=${config.sops.placeholder."database/penpot-password"}
      '';
      restartUnits = [ "podman-penpot-backend.service" "podman-penpot-exporter.service" ];
    };
    security.rave.needs = lib.genAttrs
      [ "podman-penpot-frontend" "podman-penpot-backend" "podman-penpot-exporter" ]
      (_: {
        secrets = [ "penpot/secret-key" "database/penpot-password" ];
        templates = [ "penpot.env" ];
      });

    virtualisation.oci-containers = {
      backend = "podman";
      containers = {
        penpot-frontend = container "frontend" {
          environmentFiles = [ ];
          environment = {
            PENPOT_FLAGS = flags;
            PENPOT_BACKEND_URI = "http://127.0.0.1:6060";
            PENPOT_EXPORTER_URI = "http://127.0.0.1:6061";
          };
          ports = [ "127.0.0.1:${toString cfg.ports.web}:8080" ];
          volumes = [ assets ];
        };
        penpot-backend = container "backend" (inFrontend // {
          environment = common // {
            PENPOT_FLAGS = flags;
            PENPOT_DATABASE_URI = "postgresql://${bridge.address}:${toString postgresql}/penpot";
            PENPOT_DATABASE_USERNAME = "penpot";
            PENPOT_OBJECTS_STORAGE_BACKEND = "fs";
            PENPOT_OBJECTS_STORAGE_FS_DIRECTORY = "/opt/data/assets";
            PENPOT_TELEMETRY_ENABLED = "false";
          };
          volumes = [ assets ];
        });
        penpot-exporter = container "exporter" (inFrontend // {
          environment = common // { PENPOT_INTERNAL_URI = "http://127.0.0.1:8080"; };
        });
      };
    };

    services.redis.servers.penpot = {
      enable = true;
      port = 0;
      settings = { maxmemory = "64mb"; maxmemory-policy = "volatile-lfu"; };
    };

    systemd.tmpfiles.settings."10-penpot" = {
      "/var/lib/penpot".d = { mode = "0750"; };
      # The images run as this account.
      "/var/lib/penpot/assets".d = { mode = "0750"; user = "1001"; group = "1001"; };
    };

    systemd.sockets = toPostgresql.sockets // toRedis.sockets;
    systemd.services = toPostgresql.services // toRedis.services // {
      redis-penpot.serviceConfig.MemoryMax = "96M";
    };

    # From the bridge, and from nowhere else.
    networking.firewall.interfaces.${bridge.interface}.allowedTCPPorts = [ postgresql redis.port ];
  };
}
