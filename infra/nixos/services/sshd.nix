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
      settings = config.rave.facts.sshd // {
        # Local forwards reach the loopback ports of the plan, nothing else.
        PermitOpen = if forwards == [ ] then "none" else lib.concatStringsSep " " forwards;
      };
    };

    systemd.services.sshd = {
      after = [ "rave-early.service" ];
      unitConfig.AssertPathExists = hostKey;
    };
  };
}
