# QEMU's user network has fixed addresses, so there is nothing to wait for at boot.
{ config, lib, ... }:
let
  inherit (config.rave.facts) network;
in
{
  networking = {
    usePredictableInterfaceNames = false;
    useDHCP = false;
    useNetworkd = true;
    enableIPv6 = false;
    # Without the platform's firewall there is none: NixOS' own would admit nobody, not even the operator.
    firewall.enable = lib.mkDefault config.services.rave.firewall.enable;
    nameservers = [ network.nameServer ];
  };

  systemd.network = {
    wait-online.enable = lib.mkDefault false;
    networks."10-user" = {
      matchConfig.Name = "eth0";
      address = [ "${network.address}/${toString network.prefix}" ];
      gateway = [ network.gateway ];
      networkConfig.LinkLocalAddressing = "no";
    };
  };

  # It would listen for LLMNR on every address; the one name server needs no daemon in front of it.
  services.resolved.enable = false;
  # An isolated machine reaches no time server, and the client's socket would be one more that listens. The
  # clock comes from the host.
  services.timesyncd.enable = lib.mkDefault false;
}
