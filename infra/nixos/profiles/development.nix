# Daily work without the heavy applications.
{
  imports = [ ./foundation.nix ];
  rave.profile = "development";
}
