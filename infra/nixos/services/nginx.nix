# nginx: the TLS front. Serves the status page, and every web application that asks for an ingress,
# on the one exposed port.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.nginx;
  inherit (config.rave) domain ingress;

  secrets = "/run/secrets/tls";
  live = "/run/rave/tls";

  # nginx starts without secrets: the status page must be able to say that they are missing. Until they
  # are installed it answers with a key made for this boot.
  prepareTls = pkgs.writeShellScript "rave-tls" ''
    set -eu
    umask 077
    export PATH=${lib.makeBinPath [ pkgs.coreutils pkgs.openssl ]}
    mkdir -p -m 0755 ${live}
    if [ -e ${secrets}/key ] && [ -e ${secrets}/certificate ]; then
      certificate=${secrets}/certificate key=${secrets}/key
    else
      certificate=${live}/ephemeral.crt key=${live}/ephemeral.key
      [ -e "$key" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
        -subj "/CN=rave (ephemeral)" \
        -addext "subjectAltName=DNS:localhost,DNS:${domain},DNS:*.${domain},IP:127.0.0.1" \
        -keyout "$key" -out "$certificate" 2>/dev/null
    fi
    install -o nginx -g nginx -m 0400 "$certificate" ${live}/current.crt
    install -o nginx -g nginx -m 0400 "$key" ${live}/current.key

    expires=$(date -d "$(openssl x509 -noout -enddate -in "$certificate" | cut -d= -f2)" +%s)
    mkdir -p -m 0755 /run/rave/metrics
    printf 'rave_certificate_not_after_seconds %s\n' "$expires" >/run/rave/metrics/tls.prom.new
    chmod 0644 /run/rave/metrics/tls.prom.new
    mv /run/rave/metrics/tls.prom.new /run/rave/metrics/tls.prom
  '';

  tls = {
    onlySSL = true;
    sslCertificate = "${live}/current.crt";
    sslCertificateKey = "${live}/current.key";
    listen = [ { addr = "0.0.0.0"; port = cfg.ports.status; ssl = true; } ];
  };

  headers = ''
    add_header Strict-Transport-Security "max-age=31536000" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Referrer-Policy same-origin always;
    add_header X-Request-Id $request_id always;
    limit_req zone=clients burst=${toString (cfg.requestsPerSecond * 4)} nodelay;
    limit_conn connections 64;
  '';

  loopback = port: { addr = "127.0.0.1"; inherit port; };

  # The public name with its port: an application that compares it with a browser's Origin (Grafana does)
  # refuses a name without. The headers are all set here, because nginx inherits none as soon as a
  # location sets one.
  proxyHeaders = host: scheme: ''
    proxy_set_header Host ${host}:${toString config.rave.publicPort};
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Host ${host}:${toString config.rave.publicPort};
    proxy_set_header X-Forwarded-Proto ${scheme};
    proxy_set_header X-Forwarded-Ssl on;
    proxy_set_header X-Request-Id $request_id;
  '';

  locationOf = name: app:
    if app.root != null then { root = app.root; tryFiles = "$uri $uri/ /index.html"; }
    else {
      proxyPass = app.upstream;
      proxyWebsockets = app.websockets;
      recommendedProxySettings = false;
      extraConfig = proxyHeaders "${name}.${domain}" "$scheme" + ''
        client_max_body_size ${app.maxBodySize};
      '';
    };

  applications = lib.mapAttrs'
    (name: app: lib.nameValuePair "${name}.${domain}" (tls // {
      locations."/" = locationOf name app;
      extraConfig = headers;
    }))
    ingress;

  loopbacks = lib.mapAttrs'
    (name: app: lib.nameValuePair "${name}-loopback" {
      serverName = "127.0.0.1";
      listen = [ (loopback app.loopbackPort) ];
      locations."/" = {
        proxyPass = app.upstream;
        recommendedProxySettings = false;
        # The application answers as under its public name.
        extraConfig = proxyHeaders "${name}.${domain}" "https";
      };
    })
    (lib.filterAttrs (_: app: app.loopbackPort != null) ingress);

  invalid = lib.filterAttrs (_: app: (app.upstream == null) == (app.root == null)) ingress;
in
{
  options.services.rave.nginx = import ../modules/service.nix { inherit config lib; id = "nginx"; } // {
    requestsPerSecond = lib.mkOption {
      type = lib.types.ints.positive;
      default = 20;
      description = "Requests that one client may make each second; bursts may be four times as large.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.mapAttrsToList
      (name: _: {
        assertion = false;
        message = "rave.ingress.${name}: exactly one of `upstream` and `root` must be set.";
      })
      invalid;

    services.nginx = {
      enable = true;
      recommendedOptimisation = true;
      recommendedProxySettings = true;
      recommendedGzipSettings = true;
      sslProtocols = "TLSv1.3";
      serverTokens = false;
      commonHttpConfig = ''
        log_format rave '$remote_addr $host "$request" $status $body_bytes_sent $request_time $request_id';
        access_log syslog:server=unix:/dev/log,nohostname,tag=nginx rave;
        ssl_session_tickets off;
      '';
      appendHttpConfig = ''
        limit_req_zone $binary_remote_addr zone=clients:1m rate=${toString cfg.requestsPerSecond}r/s;
        limit_req_status 429;
        limit_conn_zone $binary_remote_addr zone=connections:1m;
      '';

      virtualHosts = applications // loopbacks // {
        status = tls // {
          default = true;
          serverName = domain;
          root = "/run/rave/www";
          locations."= /".tryFiles = "/index.html =404";
          locations."= /status.json".alias = "/run/rave/status.json";
          locations."/".return = "404";
          extraConfig = headers + ''
            add_header Content-Security-Policy "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'" always;
            add_header Cache-Control no-store always;
          '';
        };
        stub-status = {
          serverName = "127.0.0.1";
          listen = [ (loopback cfg.ports.stub-status) ];
          locations."= /nginx_status".extraConfig = ''
            stub_status;
            access_log off;
          '';
          locations."/".return = "404";
        };
      };
    };

    systemd.services.nginx = {
      after = [ "rave-early.service" "sops-install-secrets.service" ];
      # As root, before nginx starts without privileges.
      serviceConfig.ExecStartPre = lib.mkBefore [ "+${prepareTls}" ];
    };
  };
}
