# Mattermost, Team Edition: team chat with accounts of its own.
{ config, lib, ... }:
let
  cfg = config.services.rave.mattermost;
  inherit (config.rave) url oidc;
  host = "127.0.0.1:${toString config.services.rave.postgresql.ports.postgresql}";
  gitlab = cfg.signIn == "gitlab";
  passwords = "mattermost.pgpass";
in
{
  options.services.rave.mattermost = {
    signIn = lib.mkOption {
      type = lib.types.enum [ "local" "gitlab" ];
      default = "local";
      description = ''
        How people sign in. Since Mattermost 11 the Team Edition has no GitLab sign-in: it needs a
        licence (`licenseFile`). For single sign-on without one, use Matrix.
      '';
    };
    licenseFile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/.*");
      default = null;
      description = "Licence on the machine, outside the store; `signIn = \"gitlab\"` needs it.";
    };
    gitlabSecretFile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/.*");
      default = null;
      description = "Environment file on the machine with MM_GITLABSETTINGS_ID and MM_GITLABSETTINGS_SECRET.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = gitlab -> cfg.licenseFile != null && cfg.gitlabSecretFile != null;
        message = "services.rave.mattermost.signIn: \"gitlab\" needs `licenseFile` and `gitlabSecretFile`; since Mattermost 11 GitLab sign-in is not part of the Team Edition.";
      }
      {
        assertion = gitlab -> oidc.provider != null;
        message = "services.rave.mattermost.signIn: \"gitlab\" needs a provider, and services.rave.gitlab is not enabled.";
      }
    ] ++ map
      (option: {
        assertion = cfg.${option} == null || !lib.hasPrefix builtins.storeDir cfg.${option};
        message = "services.rave.mattermost.${option}: must not be in the Nix store, which every account can read.";
      })
      [ "licenseFile" "gitlabSecretFile" ];

    rave.ingress.mattermost = {
      title = "Mattermost";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
      maxBodySize = "100m";
    };
    rave.databases.mattermost.units = [ "mattermost.service" ];

    # Its PostgreSQL driver reads it by itself, so the password is in no process and no configuration.
    sops.templates.${passwords} = {
      content = "127.0.0.1:*:mattermost:mattermost:${config.sops.placeholder."database/mattermost-password"}";
      owner = config.services.mattermost.user;
      restartUnits = [ "mattermost.service" ];
    };
    security.rave.needs.mattermost = {
      secrets = [ "database/mattermost-password" ];
      templates = [ passwords ];
    };

    services.mattermost = {
      enable = true;
      siteUrl = url "mattermost";
      siteName = "rave";
      host = "127.0.0.1";
      port = cfg.ports.web;
      mutableConfig = false;
      database = {
        create = false;
        peerAuth = false;
        fromEnvironment = true;
      };
      telemetry = { enableDiagnostics = false; enableSecurityAlerts = false; };
      settings = {
        TeamSettings.EnableOpenServer = false;
        ServiceSettings.EnableLocalMode = true;
        LogSettings = { EnableFile = false; ConsoleLevel = "WARN"; };
        MetricsSettings.Enable = false;
        GitLabSettings = lib.mkIf (gitlab && oidc.provider != null) {
          Enable = true;
          AuthEndpoint = oidc.provider.authorize;
          TokenEndpoint = oidc.provider.token;
          UserAPIEndpoint = oidc.provider.userinfo;
        };
      };
    };

    systemd.services.mattermost = {
      environment = {
        MM_SQLSETTINGS_DATASOURCE = "postgres://mattermost@${host}/mattermost?sslmode=disable&connect_timeout=10";
        PGPASSFILE = config.sops.templates.${passwords}.path;
        MM_SERVICESETTINGS_LICENSEFILELOCATION = lib.mkIf gitlab cfg.licenseFile;
      };
      serviceConfig.EnvironmentFile = lib.mkIf gitlab (lib.mkAfter [ cfg.gitlabSecretFile ]);
    };
  };
}
