# One account to log in with, by key alone; nobody has a password.
{ lib, ... }:
{
  users = {
    mutableUsers = false;
    # The key comes with the machine, as a credential, never with the image.
    allowNoPasswordLogin = true;
    users.root.hashedPassword = "!";
    users.rave = {
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
    wheelNeedsPassword = false;
  };

  services.getty.autologinUser = lib.mkForce null;
  security.polkit.enable = lib.mkDefault false;
}
