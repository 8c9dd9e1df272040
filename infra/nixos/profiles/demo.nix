# Show and test the platform in minutes.
{
  imports = [ ./foundation.nix ];
  rave.profile = "demo";
}
