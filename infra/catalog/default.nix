# The one table of services, secrets and profiles. Pure data: no `lib`, no nixpkgs, evaluates offline.
# The CLI, the NixOS modules, the Debian guest, the smoke suite and the docs all read it.
let
  services = import ./services.nix;
  secrets = import ./secrets.nix;
  profiles = import ./profiles.nix;
  facts = import ./facts;
  bases = [ "nixos" "debian" ];

  byName = of: names: builtins.listToAttrs (map (name: { inherit name; value = of name; }) names);
  unique = builtins.foldl' (seen: x: if builtins.elem x seen then seen else seen ++ [ x ]) [ ];

  attrOf = base: profile: if base == "nixos" then profile else "${profile}-${base}";

  # In Prometheus' own form. It must hold for longer than it takes from scrape to scrape of the target by
  # which it goes, so that one missed scrape is no alarm, unless a missed scrape can't set it off.
  ruleOf = alert: {
    inherit (alert) expr;
    alert = alert.name;
    for = alert.hold or "10s";
    labels.severity = alert.severity;
    annotations.summary = alert.summary;
  };

  exceptionsOf = base: id: map (exception: exception // { service = id; }) (services.${id}.bases.${base}.exceptions or [ ]);

  refresher = role: "postgres-set-${role}-password.service";

  # What one base makes of a list of services: only what it carries, with unit names resolved.
  planOf = base: profileName: profile: wanted:
    let
      carries = id: services.${id}.bases ? ${base};
      carried = builtins.filter carries wanted;
      unitsOf = id: services.${id}.bases.${base}.units;

      # Roles are there for all that the full stack has, and for what this base alone carries.
      prepared = id: services.${id}.database != null && (carries id || services.${id}.bases ? nixos);
      databases = map (id: services.${id}.database // { service = id; unit = refresher services.${id}.database.role; })
        (builtins.filter prepared wanted);

      secretNames = unique (
        builtins.concatMap (id: services.${id}.secrets) carried ++ map (d: d.secret) databases
      );
      rolesOf = secret: builtins.filter (d: d.secret == secret) databases;
      # How long a secret lasts is the operator's business and no part of an image.
      resolveSecret = name: builtins.removeAttrs secrets.${name} [ "lasting" ] // {
        path = "/run/secrets/${name}";
        refresh = map (d: d.unit) (rolesOf name)
          ++ builtins.concatMap unitsOf (builtins.filter (id: builtins.elem id carried) secrets.${name}.refresh);
        proof = if builtins.elem secrets.${name}.proof carried then secrets.${name}.proof else null;
      };

      asked = check: !(check ? bases) || builtins.elem base check.bases;
      resolveService = id: builtins.removeAttrs services.${id} [ "bases" "database" ] // {
        units = unitsOf id;
        state = services.${id}.bases.${base}.state or null;
        notKept = services.${id}.bases.${base}.notKept or null;
        waits = services.${id}.bases.${base}.waits or false;
        # What the smallest profile has comes first; a boot tells of it before the others have come up.
        stage = if builtins.elem id profiles.demo.services then "core" else "platform";
        checks = map (check: check // { id = "${id}.${check.id}"; }) (builtins.filter asked services.${id}.checks);
      };
    in
    {
      inherit base databases;
      profile = profileName;
      attr = attrOf base profileName;
      qcow = "rave-${attrOf base profileName}.qcow2";
      services = builtins.listToAttrs (map (name: { inherit name; value = resolveService name; }) carried);
      absent = builtins.filter (id: !(builtins.elem id carried)) profile.services;
      secrets = builtins.listToAttrs (map (name: { inherit name; value = resolveSecret name; }) secretNames);
      exposed = builtins.filter (p: p.exposed) (builtins.concatMap (id: services.${id}.ports) carried);
      inherit (profile) resources;
      exceptions = builtins.concatMap (exceptionsOf base) carried;
      facts = facts // { alerts = map ruleOf (builtins.filter (alert: builtins.elem alert.needs carried) facts.alerts); };
    };

  # A base may carry a service that stays off until its operator has configured it (`enabled = false`).
  offByDefault = base: id: !(services.${id}.bases.${base}.enabled or true);

  # In an image only if the operator has accepted it by name.
  asks = base: id: services.${id}.bases ? ${base}.asks;

  # `ids`: what the operator has accepted, of what a profile asks about.
  accepting = ids: base: name: profile:
    let
      on = id: !(services.${id}.bases ? ${base}) || !(offByDefault base id) && (!(asks base id) || builtins.elem id ids);
      plan = planOf base name profile (builtins.filter on profile.services);
      attr = builtins.concatStringsSep "-with-" ([ plan.attr ] ++ ids);
    in
    if ids == [ ] then plan else plan // { inherit attr; qcow = "rave-${attr}.qcow2"; accepted = ids; };

  # Every choice that an operator has, but none at all.
  choices = ids: builtins.filter (choice: choice != [ ])
    (builtins.foldl' (found: id: found ++ map (choice: choice ++ [ id ]) found) [ [ ] ] ids);
in
rec {
  inherit services secrets profiles facts bases offByDefault planOf;

  # plans.<profile>.<base>
  plans = builtins.mapAttrs
    (name: profile: builtins.listToAttrs (map (base: { name = base; value = accepting [ ] base name profile; }) bases))
    profiles;

  # Of each profile the plans of the Debian base in which the operator has accepted something.
  acceptedPlans = builtins.mapAttrs
    (name: profile: map (ids: accepting ids "debian" name profile)
      (choices (builtins.sort builtins.lessThan (builtins.filter (asks "debian") profile.services))))
    profiles;

  # What is off is in no image, so nothing is fetched or made for it either.
  onDebian = profile: builtins.filter (id: !(offByDefault "debian" id) && !(asks "debian" id)) profiles.${profile}.services;

  # What one that asks first brings; its lock is its own (infra/debian/locks/accepted).
  acceptedRequest = id: { tarballs.${id} = services.${id}.bases.debian.tarballs; };

  # What a profile's services bring on the Debian base: its packages, and by service what a set of their own holds.
  debianRequest = profile:
    let
      of = kind: id: services.${id}.bases.debian.${kind} or [ ];
      wanted = onDebian profile;
      sets = kind: byName (of kind) (builtins.filter (id: of kind id != [ ]) wanted);
      makers = builtins.filter (id: services.${id}.bases ? debian.archive) wanted;
    in
    {
      packages = unique (builtins.concatMap (of "packages") wanted);
      archives = map (id: { name = id; } // services.${id}.bases.debian.archive) makers;
      wheels = sets "wheels";
      tarballs = sets "tarballs";
    };

  # The directories that lie on the data disk of a machine on the Debian base: rave's own, and what the services
  # it carries have there, which counts what the operator has accepted.
  debianData = profile: accepted:
    let
      own = builtins.filter (base: base != { }) (map (id: services.${id}.bases.debian or { }) (onDebian profile ++ accepted));
      of = base: base.data or (if base ? state then [ base.state.path ] else [ ]);
    in
    unique ([ "/var/lib/rave" ] ++ builtins.concatMap of own);

  # Of a plan in which something was accepted what the same plan without it does not say: the rest would be there twice.
  moreOf = plan:
    let
      without = plans.${plan.profile}.debian;
      differing = of: other: builtins.removeAttrs of (builtins.filter (name: other ? ${name} && other.${name} == of.${name}) (builtins.attrNames of));
    in
    differing plan without // { services = differing plan.services without.services; };

  # What `nix eval --json .#profileMetadata` prints and the CLI reads.
  metadata = {
    schemaVersion = 1;
    inherit secrets;
    profiles = builtins.mapAttrs (name: profile: profile // { bases = plans.${name}; accepted = map moreOf acceptedPlans.${name}; }) profiles;
    services = builtins.mapAttrs
      (id: service: {
        inherit (service) title description;
        bases = builtins.attrNames service.bases;
        asks = service.bases.debian.asks or null;
        exceptions = builtins.mapAttrs (base: _: exceptionsOf base id) service.bases;
      })
      services;
  };
}
