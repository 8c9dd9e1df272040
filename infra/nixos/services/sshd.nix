# OpenSSH: the only way in. Keys only, one account, no root.
{ config, lib, ... }:
let
  cfg = config.services.rave.sshd;
  hostKey = "/run/credentials/@system/rave.ssh-host-key";
  inside = lib.concatMap
    (service: map (port: port.port) (lib.filter (port: !port.exposed) service.ports))
    (lib.attrValues config.rave.plan.services);
  forwards = lib.concatMap (port: [ "127.0.0.1:${toString port}" "localhost:${toString port}" ]) inside;
in
{
  options.services.rave.sshd = import ../modules/service.nix { inherit config lib; id = "sshd"; };

  config = lib.mkIf cfg.enable {
    services.openssh = {
      enable = true;
      ports = [ cfg.ports.ssh ];
      # The firewall admits what the plan exposes; nothing opens a port by itself.
      openFirewall = false;
      # The machine brings its host key as a credential. Without it sshd does not start: nobody may
      # answer in its name.
      hostKeys = [ { type = "ed25519"; path = hostKey; } ];
      generateHostKeys = false;
      authorizedKeysInHomedir = false;
      authorizedKeysFiles = lib.mkForce [ "/run/rave/ssh/authorized_keys" ];
      settings = {
        AllowUsers = [ "rave" ];
        AuthenticationMethods = "publickey";
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
        PermitRootLogin = "no";
        X11Forwarding = false;
        UseDns = false;
        LoginGraceTime = 20;
        MaxAuthTries = 3;
        MaxStartups = "10:30:30";
        ClientAliveInterval = 30;
        ClientAliveCountMax = 4;
        AllowAgentForwarding = false;
        AllowStreamLocalForwarding = "no";
        # Local forwards reach the loopback ports of the plan, nothing else.
        AllowTcpForwarding = "local";
        PermitOpen = if forwards == [ ] then "none" else lib.concatStringsSep " " forwards;
        PermitTunnel = "no";
        KexAlgorithms = [ "curve25519-sha256" "curve25519-sha256@libssh.org" ];
        HostKeyAlgorithms = "ssh-ed25519";
        PubkeyAcceptedAlgorithms = "ssh-ed25519";
        Ciphers = [ "chacha20-poly1305@openssh.com" "aes256-gcm@openssh.com" "aes128-gcm@openssh.com" ];
        Macs = [ "hmac-sha2-256-etm@openssh.com" "hmac-sha2-512-etm@openssh.com" ];
        LogLevel = "VERBOSE";
      };
    };

    systemd.services.sshd = {
      after = [ "rave-early.service" ];
      unitConfig.AssertPathExists = hostKey;
    };
  };
}
