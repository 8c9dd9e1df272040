# GitLab CE: repositories, merge requests, pipelines, and the OpenID Connect provider of the platform.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.gitlab;
  inherit (config.rave) mode url;
  path = config.security.rave.path;

  # Every unit of GitLab is bound to gitlab-config, which reads the secrets: all wait together.
  units = [
    "gitlab" "gitlab-config" "gitlab-db-config" "gitlab-sidekiq" "gitlab-workhorse" "gitaly"
  ];
  inside = "http://127.0.0.1:${toString cfg.ports.web}";
  configuration = "${config.services.gitlab.statePath}/config";

  # As the module does it, except for how the password gets there.
  seed = pkgs.writeShellScript "gitlab-db-config" ''
    set -o errexit -o pipefail -o nounset
    umask u=rwx,g=rx,o=
    GITLAB_ROOT_PASSWORD="$(<'${path "gitlab/root-password"}')"
    GITLAB_ROOT_EMAIL='${config.services.gitlab.initialRootEmail}'
    export GITLAB_ROOT_PASSWORD GITLAB_ROOT_EMAIL
    exec /run/current-system/sw/bin/gitlab-rake gitlab:db:configure >/dev/null
  '';
in
{
  imports = [ ./applications.nix ];

  options.services.rave.gitlab = {
    workers = lib.mkOption {
      type = lib.types.ints.unsigned;
      default = { safe = 0; full = 2; }.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 0 or 2";
      description = "Puma workers. With 0 Puma serves from one process, which saves about 600 MiB.";
    };
    sidekiqConcurrency = lib.mkOption {
      type = lib.types.ints.positive;
      default = { safe = 5; full = 15; }.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 5 or 15";
      description = "Background jobs at a time.";
    };
    runner = {
      enable = lib.mkEnableOption "a GitLab runner on this machine. Its token exists only once GitLab runs, so it is off until then";
      tokenFile = lib.mkOption {
        type = lib.types.nullOr (lib.types.strMatching "/.*");
        default = null;
        example = "/var/lib/rave/secrets/gitlab-runner.env";
        description = "File of CI_SERVER_URL and CI_SERVER_TOKEN on the machine, outside the store.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.runner.enable -> cfg.runner.tokenFile != null;
        message = "services.rave.gitlab.runner.tokenFile: must be set when the runner is enabled.";
      }
      {
        assertion = cfg.runner.tokenFile == null || !lib.hasPrefix builtins.storeDir cfg.runner.tokenFile;
        message = "services.rave.gitlab.runner.tokenFile: must not be in the Nix store, which every account can read.";
      }
      {
        assertion = cfg.ports.gitaly == 9236;
        message = "services.rave.gitlab.ports.gitaly: GitLab's module has Gitaly's metrics at 9236 and no option to move them.";
      }
    ];

    rave.ingress.gitlab = {
      title = "GitLab";
      upstream = "http://unix:/run/gitlab/gitlab-workhorse.socket";
      websockets = true;
      maxBodySize = "250m";
      # The workhorse has a socket only; health questions and sign-in of other services come here.
      loopbackPort = cfg.ports.web;
    };
    rave.oidc.provider = {
      name = "GitLab";
      issuer = url "gitlab";
      authorize = "${url "gitlab"}/oauth/authorize";
      token = "${inside}/oauth/token";
      userinfo = "${inside}/oauth/userinfo";
      jwks = "${inside}/oauth/discovery/keys";
    };
    rave.databases.gitlab = {
      extensions = [ "pg_trgm" "btree_gist" "amcheck" ];
      units = [ "gitlab-db-config.service" "gitlab.service" "gitlab-sidekiq.service" ];
    };
    rave.memory.gitlab.slice = "system-gitlab";
    security.rave.needs = lib.genAttrs units (_: {
      secrets = [
        "gitlab/root-password"
        "gitlab/db-password"
        "gitlab/secret"
        "gitlab/db"
        "gitlab/otp"
        "gitlab/jws"
        "gitlab/active-record-primary-key"
        "gitlab/active-record-deterministic-key"
        "gitlab/active-record-salt"
      ];
    });

    services.gitlab = {
      enable = true;
      host = "gitlab.${config.rave.domain}";
      port = config.rave.publicPort;
      https = true;
      databaseHost = "127.0.0.1";
      databaseCreateLocally = false;
      databaseName = "gitlab";
      databaseUsername = "gitlab";
      databasePasswordFile = path "gitlab/db-password";
      databasePool = cfg.sidekiqConcurrency + 5;
      initialRootEmail = "root@${config.rave.domain}";
      initialRootPasswordFile = path "gitlab/root-password";
      secrets = {
        secretFile = path "gitlab/secret";
        dbFile = path "gitlab/db";
        otpFile = path "gitlab/otp";
        jwsFile = path "gitlab/jws";
        activeRecordPrimaryKeyFile = path "gitlab/active-record-primary-key";
        activeRecordDeterministicKeyFile = path "gitlab/active-record-deterministic-key";
        activeRecordSaltFile = path "gitlab/active-record-salt";
      };
      puma = { inherit (cfg) workers; threadsMin = 1; threadsMax = 4; };
      sidekiq.concurrency = cfg.sidekiqConcurrency;
      smtp.enable = false;
      extraConfig = {
        gitlab = {
          default_projects_features.container_registry = false;
          usage_ping_enabled = false;
        };
        # The readiness question is asked from this machine only.
        monitoring = {
          ip_whitelist = [ "127.0.0.0/8" ];
          # It would listen on a port of its own, and nobody asks it.
          sidekiq_exporter.enabled = false;
        };
      };
    };

    # What GitLab writes its keys and passwords into, anew before each start: in memory, not on the disk.
    fileSystems.${configuration} = {
      fsType = "tmpfs";
      options = [ "mode=0750" "nosuid" "nodev" "noexec" "size=64m" ];
    };

    systemd.services = {
      gitlab-config.unitConfig.RequiresMountsFor = configuration;
      gitlab-db-config = {
        after = [ "postgresql.target" ];
        # The module's own would show the password in the arguments, which every account can read.
        serviceConfig.ExecStart = lib.mkForce seed;
      };
      # Both processes give memory back instead of holding it.
      gitlab.environment.MALLOC_ARENA_MAX = "2";
      gitlab-sidekiq.environment.MALLOC_ARENA_MAX = "2";
      # Its own Redis counts as part of it.
      redis-gitlab.serviceConfig = { Slice = "system-gitlab.slice"; Restart = "on-failure"; RestartSec = 1; };
    };

    services.gitlab-runner = lib.mkIf cfg.runner.enable {
      enable = true;
      services.rave = {
        authenticationTokenConfigFile = cfg.runner.tokenFile;
        executor = "shell";
        limit = 1;
      };
    };
  };
}
