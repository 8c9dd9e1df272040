# One account to log in with, by key alone; nobody has a password.
{ config, lib, ... }:
let
  inherit (config.rave.facts) operator sudo;
in
{
  users = {
    mutableUsers = false;
    # The key comes with the machine, as a credential, never with the image.
    allowNoPasswordLogin = true;
    users.root.hashedPassword = "!";
    users.${operator} = {
      isNormalUser = true;
      uid = 1000;
      extraGroups = [ "wheel" "systemd-journal" ];
      hashedPassword = "!";
      description = "operator";
    };
  };

  security.sudo = {
    enable = true;
    execWheelOnly = true;
    # The operator alone needs no password, and nobody has one: being in a group gives nothing.
    wheelNeedsPassword = true;
    extraConfig = lib.concatLines (map (setting: "Defaults ${setting}") sudo.defaults ++ sudo.rules);
  };

  services.getty.autologinUser = lib.mkForce null;
  security.polkit.enable = lib.mkDefault false;
}
