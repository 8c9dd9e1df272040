# Outline: documents. Its licence (BSL 1.1) is not a free one; see the decision on unfree packages.
{ config, lib, ... }:
let
  cfg = config.services.rave.outline;
  inherit (config.rave) url oidc;
  path = config.security.rave.path;
  socket = "/run/outline/outline.sock";
  host = "127.0.0.1:${toString config.services.rave.postgresql.ports.postgresql}";

  credentials = {
    secret-key = "outline/secret-key";
    utils-secret = "outline/utils-secret";
    database-password = "database/outline-password";
    oidc-secret = "oidc/outline-client-secret";
  };
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = oidc.provider != null;
        message = "services.rave.outline.enable: Outline has no accounts of its own; it needs a sign-in provider, and services.rave.gitlab is not enabled.";
      }
    ];

    rave.ingress.outline = {
      title = "Outline";
      # Outline's port would be open on every address; a socket is on none. Health questions come here.
      upstream = "http://unix:${socket}";
      inherit (config.services.outline) group;
      loopbackPort = cfg.ports.web;
      websockets = true;
      maxBodySize = "100m";
    };
    rave.databases.outline = {
      extensions = [ "uuid-ossp" ];
      units = [ "outline.service" ];
    };
    rave.oidc.clients.outline = {
      secret = credentials.oidc-secret;
      redirectUris = [ "${url "outline"}/auth/oidc.callback" ];
    };
    security.rave.needs.outline.secrets = lib.attrValues credentials;

    services.outline = {
      enable = true;
      publicUrl = url "outline";
      forceHttps = false;
      enableUpdateCheck = false;
      concurrency = 1;
      # Not "local": that would make a role that logs in by its account, without the password.
      databaseUrl = "postgres://outline@${host}/outline";
      redisUrl = "local";
      storage.storageType = "local";
      oidcAuthentication = lib.mkIf (oidc.provider != null) {
        clientId = "outline";
        # Read from the credential below; the module wants a path.
        clientSecretFile = "/dev/null";
        authUrl = oidc.provider.authorize;
        tokenUrl = oidc.provider.token;
        userinfoUrl = oidc.provider.userinfo;
        displayName = oidc.provider.name;
        usernameClaim = "preferred_username";
        scopes = [ "openid" "profile" "email" ];
      };
    };

    rave.memory.outline.slice = "system-outline";
    systemd.services.redis-outline.serviceConfig = { Slice = "system-outline.slice"; Restart = "on-failure"; RestartSec = 1; };
    systemd.services.outline = {
      after = [ "postgresql.target" ];
      # The module has systemd-tmpfiles create the files of its secrets. Given /run/secrets/…, that would
      # make /run/secrets a directory before the secrets arrive, and sops-nix could not put its link there.
      # So Outline gets them as credentials, and its own start script.
      preStart = lib.mkForce "";
      script = lib.mkForce ''
        SECRET_KEY="$(<"$CREDENTIALS_DIRECTORY/secret-key")"
        UTILS_SECRET="$(<"$CREDENTIALS_DIRECTORY/utils-secret")"
        OIDC_CLIENT_SECRET="$(<"$CREDENTIALS_DIRECTORY/oidc-secret")"
        DATABASE_URL="postgres://outline:$(<"$CREDENTIALS_DIRECTORY/database-password")@${host}/outline"
        export SECRET_KEY UTILS_SECRET OIDC_CLIENT_SECRET DATABASE_URL PGSSLMODE=disable
        exec ${config.services.outline.package}/bin/outline-server --port=${socket}
      '';
      environment.NODE_OPTIONS = "--max-old-space-size=${toString (cfg.memoryMiB * 3 / 4)}";
      serviceConfig = {
        LoadCredential = lib.mapAttrsToList (name: secret: "${name}:${path secret}") credentials;
        Slice = "system-outline.slice";
        RuntimeDirectory = "outline";
        RuntimeDirectoryMode = "0750";
        # The group may use the socket.
        UMask = lib.mkForce "0007";
      };
    };
  };
}
