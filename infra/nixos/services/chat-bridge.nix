# The chat bridge, as an application service of the machine's own Matrix. Off until an operator says who may command:
# GitLab, which signs people in here, is not asked for their groups.
{ config, lib, ... }:
let
  cfg = config.services.rave.chat-bridge;
  inherit (config.rave) facts mode;
  path = config.security.rave.path;
  account = "chat-bridge";

  secrets = [ "chat-bridge/as-token" "chat-bridge/hs-token" "nats/password" ];
  credential = baseNameOf;
  secretOf = secret: config.sops.placeholder.${secret};

  settings = config.rave.platformSettings account {
    store = "/var/lib/${account}/bridge.db";
    port = cfg.ports.web;
    inherit mode;
    inherit (cfg) groups permissions;
    nats = {
      url = "nats://127.0.0.1:${toString config.services.rave.nats.ports.client}";
      user = facts.nats.user;
      password_file = credential "nats/password";
    };
    matrix = {
      url = "http://127.0.0.1:${toString config.services.rave.matrix.ports.client}";
      own_rooms = [ "rave" ];
      as_token_file = credential "chat-bridge/as-token";
      hs_token_file = credential "chat-bridge/hs-token";
    };
  };

  # As Synapse knows it: an account and a room that nobody else can have. JSON is YAML.
  registration = {
    id = "rave";
    url = "http://127.0.0.1:${toString cfg.ports.web}";
    as_token = secretOf "chat-bridge/as-token";
    hs_token = secretOf "chat-bridge/hs-token";
    sender_localpart = "rave";
    rate_limited = false;
    namespaces = {
      users = [ { exclusive = true; regex = "@rave:.*"; } ];
      aliases = [ { exclusive = true; regex = "#rave:.*"; } ];
      rooms = [ ];
    };
  };
in
{
  options.services.rave.chat-bridge = {
    groups = lib.mkOption {
      type = lib.types.attrsOf (lib.types.listOf lib.types.str);
      default = { };
      example = { leads = [ "alice" ]; };
      description = "Who is in which group, by the names of their accounts.";
    };
    permissions = lib.mkOption {
      type = lib.types.attrsOf (lib.types.listOf lib.types.str);
      default = {
        developers = [ "help" "status" "agents" "run" "cancel" ];
        leads = [ "help" "status" "agents" "run" "cancel" "approve" "reject" "create project" ];
      };
      description = "What each group may command.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.groups != { };
        message = "services.rave.chat-bridge.groups: must name who may command; nobody could.";
      }
      {
        assertion = config.services.rave.matrix.enable;
        message = "services.rave.chat-bridge.enable: it talks in Matrix (services.rave.matrix.enable).";
      }
    ];

    security.rave.needs.${account} = { inherit secrets; };
    sops.templates."chat-bridge.yaml" = {
      content = builtins.toJSON registration;
      owner = "matrix-synapse";
      restartUnits = [ "matrix-synapse.service" ];
    };
    security.rave.needs.matrix-synapse = {
      secrets = [ "chat-bridge/as-token" "chat-bridge/hs-token" ];
      templates = [ "chat-bridge.yaml" ];
    };
    services.matrix-synapse.settings.app_service_config_files = [ config.sops.templates."chat-bridge.yaml".path ];

    users.users.${account} = { isSystemUser = true; group = account; };
    users.groups.${account} = { };

    systemd.services.${account} = {
      description = "Chat bridge";
      wantedBy = [ "multi-user.target" ];
      wants = [ "nats.service" ];
      after = [ "nats.service" ];
      serviceConfig = {
        Type = "notify";
        User = account;
        StateDirectory = account;
        StateDirectoryMode = "0700";
        LoadCredential = map (secret: "${credential secret}:${path secret}") secrets;
        ExecStart = "${config.rave.platformProgram "bridge"} ${settings}";
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
