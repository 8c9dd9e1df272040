# The webhook dispatcher: stores signed webhooks before it acknowledges them. Off until an operator wants it: the
# profiles' memory is planned without it.
{ config, lib, ... }:
let
  cfg = config.services.rave.webhook-dispatcher;
  inherit (config.rave) facts mode;
  path = config.security.rave.path;
  account = "webhook-dispatcher";

  secrets = [ "nats/password" "webhook/gitlab-signing-secret" "webhook/github-secret" "webhook/forgejo-secret" ];
  credential = lib.replaceStrings [ "/" ] [ "-" ];
  source = scheme: secret: { inherit scheme; secret_files = [ (credential secret) ]; };

  settings = config.rave.platformSettings account {
    store = "/var/lib/${account}/events.db";
    port = cfg.ports.web;
    inherit mode;
    nats = {
      url = "nats://127.0.0.1:${toString config.services.rave.nats.ports.client}";
      user = facts.nats.user;
      password_file = credential "nats/password";
    };
    sources = {
      gitlab = source "gitlab" "webhook/gitlab-signing-secret";
      github = source "github" "webhook/github-secret";
      forgejo = source "gitea" "webhook/forgejo-secret";
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    security.rave.needs.${account} = { inherit secrets; };

    users.users.${account} = { isSystemUser = true; group = account; };
    users.groups.${account} = { };

    # It judges each body: nginx hands it on as it comes, and keeps none on the disk.
    services.nginx.virtualHosts.status.locations."/webhooks/" = {
      proxyPass = "http://127.0.0.1:${toString cfg.ports.web}";
      recommendedProxySettings = false;
      extraConfig = ''
        limit_except POST { deny all; }
        client_max_body_size 1m;
        proxy_request_buffering off;
        proxy_set_header Host $http_host;
        proxy_set_header X-Request-Id $request_id;
        proxy_read_timeout 30s;
      '';
    };

    systemd.services.${account} = {
      description = "Webhook dispatcher";
      wantedBy = [ "multi-user.target" ];
      wants = [ "nats.service" ];
      after = [ "nats.service" ];
      serviceConfig = {
        Type = "notify";
        User = account;
        StateDirectory = account;
        StateDirectoryMode = "0700";
        LoadCredential = map (secret: "${credential secret}:${path secret}") secrets;
        ExecStart = "${config.rave.platformProgram "dispatcher"} ${settings}";
        UMask = "0077";
        # Its socket: whoever connects while it is started anew waits.
        FileDescriptorStoreMax = 1;
        Restart = "on-failure";
        RestartSec = 2;
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        RestrictAddressFamilies = [ "AF_INET" "AF_UNIX" ];
      };
    };
  };
}
