# nginx: the TLS front. Serves the status page, and every web application that asks for an ingress,
# on the one exposed port.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.nginx;
  inherit (config.rave) domain ingress facts;

  live = "/run/rave/tls";

  # The certificate that the host made for this machine (guest.nix has it in place), or one made for this
  # boot where it gave none.
  prepareTls = pkgs.writeShellScript "rave-tls" ''
    set -eu
    umask 077
    export PATH=${lib.makeBinPath [ pkgs.coreutils pkgs.openssl ]}
    mkdir -p -m 0755 ${live}
    if [ -s ${live}/machine.key ] && [ -s ${live}/machine.crt ]; then
      certificate=${live}/machine.crt key=${live}/machine.key
    else
      certificate=${live}/ephemeral.crt key=${live}/ephemeral.key
      names='DNS:localhost,DNS:${domain},DNS:*.${domain},IP:127.0.0.1'
      origin=; [ ! -e /run/rave/origin ] || read -r origin </run/rave/origin || origin=
      host=''${origin#*://} host=''${host%%:*}
      case $host in "" | ${domain}) ;; *) names="$names,DNS:$host,DNS:*.$host" ;; esac
      # Made again for other names, or when 30 of its 90 days are left. `names` is written last.
      touch -d '60 days ago' ${live}/limit
      had=; [ ! -e ${live}/names ] || read -r had <${live}/names || had=
      if [ "$had" != "$names" ] || [ "$certificate" -ot ${live}/limit ]; then
        : >${live}/names
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 90 \
          -subj "/CN=rave (ephemeral)" -addext "subjectAltName=$names" \
          -keyout "$key" -out "$certificate" 2>/dev/null
        echo "$names" >${live}/names
      fi
    fi
    chown nginx:nginx "$key" "$certificate"
    ln -sfn "$certificate" ${live}/current.crt
    ln -sfn "$key" ${live}/current.key
  '';

  tls = {
    onlySSL = true;
    sslCertificate = "${live}/current.crt";
    sslCertificateKey = "${live}/current.key";
    listen = [ { addr = "0.0.0.0"; port = cfg.ports.status; ssl = true; } ];
  };

  headersOf = set: lib.concatLines (lib.mapAttrsToList (name: value: ''add_header ${name} "${value}" always;'') set);
  perClient = ''
    limit_req zone=clients burst=${toString facts.nginx.burst} nodelay;
    limit_conn connections ${toString facts.nginx.connections};
    add_header X-Request-Id $request_id always;
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
      locations = { ${app.path} = locationOf name app; }
        // lib.optionalAttrs (app.path != "/") { "/".return = "404"; };
      extraConfig = perClient + headersOf facts.nginx.headers;
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

  # Groups that may use the sockets of applications which have no port.
  groups = lib.unique (lib.filter (group: group != null) (map (app: app.group) (lib.attrValues ingress)));

  invalid = lib.filterAttrs (_: app: (app.upstream == null) == (app.root == null)) ingress;
in
{
  options.services.rave.nginx = {
    requestsPerSecond = lib.mkOption {
      type = lib.types.ints.positive;
      default = (import ../../catalog).facts.nginx.requestsPerSecond;
      description = "Requests that one client may make each second.";
    };
  };

  config = lib.mkIf cfg.enable {
    rave.facts.nginx.requestsPerSecond = cfg.requestsPerSecond;

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
      clientMaxBodySize = facts.nginx.bodySize;
      serverTokens = false;
      commonHttpConfig = ''
        log_format rave '$remote_addr $host "$request" $status $body_bytes_sent $request_time $request_id';
        access_log syslog:server=unix:/dev/log,nohostname,tag=nginx rave;
        ssl_session_tickets off;
      '';
      appendHttpConfig = ''
        limit_req_zone $binary_remote_addr zone=clients:1m rate=${toString facts.nginx.requestsPerSecond}r/s;
        limit_req_status 429;
        limit_conn_zone $binary_remote_addr zone=connections:1m;
      '';

      virtualHosts = applications // loopbacks // {
        status = tls // {
          default = true;
          serverName = domain;
          root = "/run/rave/www";
          locations."= /".tryFiles = "/index.html =404";
          locations."= /portal.css".tryFiles = "/portal.css =404";
          locations."= /status.json".alias = "/run/rave/status.json";
          locations."/".return = "404";
          extraConfig = perClient + headersOf (facts.nginx.headers // facts.nginx.pageHeaders);
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
      after = [ "rave-early.service" ];
      # As root, before nginx starts without privileges.
      serviceConfig.ExecStartPre = lib.mkBefore [ "+${prepareTls}" ];
      serviceConfig.SupplementaryGroups = groups;
    };
  };
}
