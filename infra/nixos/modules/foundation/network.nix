# QEMU's user network has fixed addresses, so there is nothing to wait for at boot.
{ lib, ... }:
{
  networking = {
    usePredictableInterfaceNames = false;
    useDHCP = false;
    useNetworkd = true;
    enableIPv6 = false;
    nameservers = [ "10.0.2.3" ];
  };

  systemd.network = {
    wait-online.enable = lib.mkDefault false;
    networks."10-user" = {
      matchConfig.Name = "eth0";
      address = [ "10.0.2.15/24" ];
      gateway = [ "10.0.2.2" ];
      networkConfig.LinkLocalAddressing = "no";
    };
  };

  # It would listen for LLMNR on every address; the one name server needs no daemon in front of it.
  services.resolved.enable = false;
  services.timesyncd.enable = lib.mkDefault true;
}
