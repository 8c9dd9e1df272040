# Penpot: design, as the project's own OCI images, because nixpkgs does not package its server.
#
# The three containers share a network namespace that holds nothing but its loopback: no bridge, no route,
# no way out. Sockets lead across, one for each thing they need: in to the frontend, out to PostgreSQL and
# to a Redis of their own. They find each at its usual address.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.penpot;
  inherit (config.rave) url;
  namespace = "/run/netns/penpot";

  # Digests, not tags: what runs is what was chosen.
  images = {
    frontend = "docker.io/penpotapp/frontend:2.17.0@sha256:861989dfff50f12b9de1358c6b0f3cc1e601d7a678db2826f3643d0f93438500";
    backend = "docker.io/penpotapp/backend:2.17.0@sha256:471cdebf185be899ef7d7593e9cd7994b908ebd7ffb78ca547e3d843bb83536f";
    exporter = "docker.io/penpotapp/exporter:2.17.0@sha256:7e8beb6ef2bdb9d778e9bbcbf7feebf8c99a137b2d9eb3969450c0a1a49e41c5";
  };
  parts = lib.attrNames images;
  missing = lib.filter (part: cfg.imageFiles.${part} == null) parts;
  shares = { frontend = 10; backend = 65; exporter = 25; };

  # conmon puts a container into a scope of its own, so the unit's cap would not reach it.
  capped = part: [
    "--memory=${toString (cfg.memoryMiB * shares.${part} / 100)}m"
    "--memory-swap=-1"
    "--cgroup-parent=${slice}.slice"
  ];
  slice = "system-penpot";
  assets = "/var/lib/penpot/assets:/opt/data/assets";
  flags = lib.concatStringsSep " " [
    "enable-login-with-password" "disable-registration" "disable-email-verification"
  ];
  common = {
    PENPOT_PUBLIC_URI = url "penpot";
    PENPOT_REDIS_URI = "redis://127.0.0.1:6379/0";
  };

  container = part: more: {
    # An archive has no digest of a registry: it is known by its name, and nobody is asked for it.
    image = if cfg.imageFiles.${part} == null then cfg.images.${part} else lib.head (lib.splitString "@" cfg.images.${part});
    imageFile = cfg.imageFiles.${part};
    pull = if cfg.imageFiles.${part} == null then "missing" else "never";
    networks = [ "ns:${namespace}" ];
    extraOptions = capped part ++ [ "--security-opt=no-new-privileges" ];
    environmentFiles = [ config.sops.templates."penpot.env".path ];
  } // more;
  behind = { dependsOn = [ "penpot-frontend" ]; };

  # A socket on one side and a proxy on the other. `inside` says where each of the two is.
  passage = name: { listen, target, socketInside ? false, proxyInside ? false, group ? null }: {
    sockets."penpot-${name}" = {
      description = "Penpot's passage: ${name}";
      wantedBy = [ "sockets.target" ];
      requires = [ "penpot-network.service" ];
      after = [ "penpot-network.service" ];
      listenStreams = [ listen ];
      socketConfig = lib.optionalAttrs socketInside { NetworkNamespacePath = namespace; };
    };
    services."penpot-${name}" = {
      description = "Penpot's passage: ${name}";
      requires = [ "penpot-${name}.socket" ];
      after = [ "penpot-${name}.socket" ];
      serviceConfig = {
        Type = "notify";
        ExecStart = "${config.systemd.package}/lib/systemd/systemd-socket-proxyd ${target}";
        Restart = "on-failure";
        RestartSec = 1;
        Slice = "${slice}.slice";
        DynamicUser = true;
        PrivateTmp = true;
        ProtectSystem = "strict";
        NoNewPrivileges = true;
      }
      // lib.optionalAttrs proxyInside { NetworkNamespacePath = namespace; }
      // lib.optionalAttrs (group != null) { SupplementaryGroups = [ group ]; };
    };
  };
  passages = lib.mapAttrsToList passage {
    web = { listen = "127.0.0.1:${toString cfg.ports.web}"; target = "127.0.0.1:8080"; proxyInside = true; };
    postgresql = {
      listen = "127.0.0.1:5432";
      target = "127.0.0.1:${toString config.services.rave.postgresql.ports.postgresql}";
      socketInside = true;
    };
    redis = {
      listen = "127.0.0.1:6379";
      target = config.services.redis.servers.penpot.unixSocket;
      socketInside = true;
      group = "redis-penpot";
    };
  };
in
{
  options.services.rave.penpot = {
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
          Archive of Penpot's ${part}: `dockerTools.pullImage` with the name, tag and digest of
          `images.${part}`. The machine's image then carries it.
        '';
      })
      images;
    fetchImages = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether the machine fetches images that are not given as `imageFiles` when the service first
        starts. An isolated machine, which is the default, cannot.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = missing == [ ] || cfg.fetchImages;
        message = "services.rave.penpot.imageFiles: ${lib.concatStringsSep ", " missing} must be given, because an isolated machine cannot fetch them; set fetchImages for one that reaches a registry (rave vm start --network nat).";
      }
    ];

    rave.ingress.penpot = {
      title = "Penpot";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
      maxBodySize = "350m";
    };
    rave.databases.penpot.units = [ "podman-penpot-backend.service" ];
    rave.memory.penpot.slice = slice;

    sops.templates."penpot.env" = {
      content = ''
        PENPOT_SECRET_KEY=${config.sops.placeholder."penpot/secret-key"}
        PENPOT_DATABASE_PASSWORD=${config.sops.placeholder."database/penpot-password"}
      '';
      restartUnits = [ "podman-penpot-backend.service" "podman-penpot-exporter.service" ];
    };
    security.rave.needs = lib.genAttrs (map (part: "podman-penpot-${part}") parts) (_: {
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
          volumes = [ assets ];
        };
        penpot-backend = container "backend" (behind // {
          environment = common // {
            PENPOT_FLAGS = flags;
            PENPOT_DATABASE_URI = "postgresql://127.0.0.1:5432/penpot";
            PENPOT_DATABASE_USERNAME = "penpot";
            PENPOT_OBJECTS_STORAGE_BACKEND = "fs";
            PENPOT_OBJECTS_STORAGE_FS_DIRECTORY = "/opt/data/assets";
            PENPOT_TELEMETRY_ENABLED = "false";
          };
          volumes = [ assets ];
        });
        penpot-exporter = container "exporter" (behind // {
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

    systemd.sockets = lib.mkMerge (map (one: one.sockets) passages);
    systemd.services = lib.mkMerge (map (one: one.services) passages ++ [
      {
        # Before any socket, and so before basic.target.
        penpot-network = {
          description = "Penpot's network: a loopback of its own";
          unitConfig.DefaultDependencies = false;
          conflicts = [ "shutdown.target" ];
          before = [ "shutdown.target" ];
          path = [ pkgs.iproute2 ];
          serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
          script = ''
            ip netns add penpot
            ip -n penpot link set lo up
          '';
          preStop = "ip netns delete penpot";
        };
        redis-penpot.serviceConfig = { Slice = "${slice}.slice"; Restart = "on-failure"; RestartSec = 1; };
      }
      (lib.genAttrs (map (part: "podman-penpot-${part}") parts) (_: {
        requires = [ "penpot-network.service" ];
        after = [ "penpot-network.service" ];
        serviceConfig.Slice = "${slice}.slice";
      }))
    ]);
  };
}
