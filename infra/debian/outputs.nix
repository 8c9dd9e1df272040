# Flake outputs of the Debian base: one image per profile, `<profile>-debian`, and one for whatever an operator may accept
# beside it, `<profile>-debian-with-<service>`. Needs no input.
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

  # Of what is in an image only if the operator has accepted it.
  acceptedLock = id:
    let file = ./locks/accepted + "/${id}.json"; in
    if builtins.pathExists file then builtins.fromJSON (builtins.readFile file)
    else throw "${id} has no lock; run: RAVE_ACCEPTED=${id} rave vm lock-closure";

  image = plan: {
    name = plan.attr;
    value = (guest plan (lockOf plan.profile) (map acceptedLock (plan.accepted or [ ]))).image;
  };
  plans = profile: [ catalog.plans.${profile}.debian ] ++ catalog.acceptedPlans.${profile};
in
{
  # What `rave vm lock-closure` asks apt, pip and npm for.
  requests = builtins.mapAttrs
    (profile: _: import ./request.nix (import ./packages.nix) (catalog.debianRequest profile))
    catalog.profiles;

  # The same for what is in no image unless it is accepted.
  acceptedRequests = builtins.listToAttrs (map (id: { name = id; value = catalog.acceptedRequest id; })
    (builtins.filter (id: catalog.services.${id}.bases ? debian.asks) (builtins.attrNames catalog.services)));

  packages = builtins.listToAttrs (map image (builtins.concatMap plans (builtins.attrNames catalog.profiles)));
}
