# nftables: drops everything but the ports that the plan exposes.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.firewall;
  ports = protocol: map (port: port.port) (lib.filter (port: port.protocol == protocol) config.rave.plan.exposed);
in
{
  config = lib.mkIf cfg.enable {
    networking.nftables.enable = true;
    networking.firewall = {
      enable = true;
      allowedTCPPorts = ports "tcp";
      allowedUDPPorts = ports "udp";
      logRefusedConnections = false;
    };
    environment.systemPackages = [ pkgs.nftables ];
  };
}
