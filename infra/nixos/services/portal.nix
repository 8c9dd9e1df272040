# The portal: what of the status page depends on who looks, and what is behind sign-in. Grafana draws curves here, so
# the page has the figures as text.
{ config, lib, ... }:
let
  cfg = config.services.rave.portal;
  inherit (config.rave) oidc plan facts;
  record = plan.services.portal.oidcClient;
  secret = config.security.rave.path record.secret;
  account = "rave-portal";

  inside = name: "http://127.0.0.1:${toString config.services.rave.${name}.ports.web}";
  wanted = name: plan.services ? ${name};
  signIn = oidc.provider != null;
  behind = lib.filter wanted (lib.optionals signIn [ "prometheus" "alertmanager" ]);

  settings = builtins.toJSON {
    prometheus = if wanted "prometheus" then inside "prometheus" else null;
    charts = false;
    provider = if !signIn then null else {
      inherit (oidc.provider) name issuer authorize token jwks;
      client = record.id;
      inherit (record) scopes;
      inherit secret;
      # GitLab has no place where a client lets somebody sign out.
      end = "";
    };
    links = map (name: { inherit (plan.services.${name}) title; path = "/${name}/"; }) behind;
  };

  headersOf = set: lib.concatLines (lib.mapAttrsToList (name: value: ''add_header ${name} "${value}" always;'') set);
  proxied = more: {
    proxyPass = "http://127.0.0.1:${toString cfg.ports.web}";
    recommendedProxySettings = false;
    extraConfig = ''
      proxy_set_header Host $http_host;
      proxy_connect_timeout 2s;
      ${more}
    '';
  };
  closed = name: {
    "/${name}/" = {
      proxyPass = "${inside name}/";
      recommendedProxySettings = false;
      extraConfig = ''
        limit_except GET { deny all; }
        auth_request /portal/session;
        error_page 401 = @portal-sign-in-${name};
        ${headersOf (facts.nginx.headers // facts.nginx.behindHeaders)}
      '';
    };
    "@portal-sign-in-${name}".return = "303 /portal/sign-in?to=${name}";
  };
in
{
  config = lib.mkIf cfg.enable {
    rave.oidc.clients = lib.mkIf signIn {
      ${record.id} = {
        inherit (record) secret;
        redirectUris = map (path: "https://${config.rave.domain}:${toString config.rave.publicPort}${path}") record.redirects;
      };
    };

    services.prometheus.extraFlags = lib.mkIf (lib.elem "prometheus" behind)
      [ "--web.external-url=/prometheus/" "--web.route-prefix=/" ];

    services.nginx.virtualHosts.status = {
      extraConfig = "absolute_redirect off;";
      locations = lib.mkMerge ([
        {
          "= /".extraConfig = ''
            ssi on;
            ssi_silent_errors on;
          '';
          "= /portal/part" = proxied ''
            internal;
            proxy_read_timeout 5s;
          '';
          "= /portal/session" = proxied ''
            internal;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
          '';
          "~ ^/portal/(sign-in|callback|sign-out)$" = proxied "";
        }
      ] ++ map closed behind);
    };

    users.users.${account} = { isSystemUser = true; group = account; };
    users.groups.${account} = { };

    environment.etc."rave/portal.json".text = settings;

    systemd.sockets.rave-portal = {
      description = "What of the portal depends on who looks";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ "127.0.0.1:${toString cfg.ports.web}" ];
    };
    systemd.services.rave-portal = {
      description = "What of the portal depends on who looks";
      requires = [ "rave-portal.socket" ];
      after = [ "rave-portal.socket" ];
      serviceConfig = {
        User = account;
        ExecStart = "${config.rave.guestPackage}/rave-guest portal /etc/rave/portal.json /run/rave-portal";
        # Sessions are there; the program ends while nobody comes.
        RuntimeDirectory = "rave-portal";
        RuntimeDirectoryMode = "0700";
        RuntimeDirectoryPreserve = true;
        UMask = "0077";
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
