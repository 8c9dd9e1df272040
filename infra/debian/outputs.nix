# Flake outputs of the Debian base: one image per profile, `<profile>-debian`. Needs no input.
{ catalog }:
let
  guest = import ./. { inherit catalog; guest = ../../src/rave_guest; platform = ../../src/rave_platform; };

  # The lock of the repository, or the one that `rave` made where a package has left the mirrors
  # (an impure evaluation; a pure one always reads the repository's).
  lockFile = profile:
    let own = builtins.getEnv "RAVE_DEBIAN_LOCK"; in
    if own != "" then /. + own else ./locks + "/${profile}.json";

  lockOf = profile:
    if builtins.pathExists (lockFile profile) then builtins.readFile (lockFile profile)
    else throw "profile ${profile} has no lock; run: rave vm lock-closure --profile ${profile}";

  image = profile: { name = catalog.plans.${profile}.debian.attr; value = (guest profile (lockOf profile)).image; };
in
{
  # What `rave vm lock-closure` asks apt, pip and npm for.
  requests = builtins.mapAttrs
    (profile: _: import ./request.nix (import ./packages.nix) (catalog.debianRequest profile))
    catalog.profiles;

  packages = builtins.listToAttrs (map image (builtins.attrNames catalog.profiles));
}
