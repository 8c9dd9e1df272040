# The Debian base: from a lock to an image. Pure, without nixpkgs; the host lends a shell and a few tools.
#
#   build { catalog, guest, platform, plan, lockText, accepted } -> { base, image }   (derivations)
#
# `lockText` is the lock file, which goes into the output as it is. `accepted` are the locks of what the operator has
# accepted beside it, which are put into it. The packages they name must be in the store: `rave vm build-image` puts
# them there, under the names and hashes of the lock.
{ catalog, guest, platform }:
let
  packages = import ./packages.nix;
  request = import ./request.nix;

  # Store paths depend on content alone: not on where the checkout lies, nor on files beside it.
  source = name: path: builtins.path { inherit name path; filter = tracked; };
  tracked = path: _: !(builtins.elem (baseNameOf path) [ "__pycache__" ".gitkeep" ]) && builtins.match ".*\\.pyc" path == null;
  builder = name: files: builtins.path {
    name = "rave-builder-${name}";
    path = ./builders;
    filter = path: _: builtins.elem (baseNameOf path) files;
  };

  run = { name, program, files, spec }: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ ./builders/start ];
    PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    PYTHONPATH = builder name files;
    program = "${builder name files}/${program}";
    spec = builtins.toJSON spec;
    passAsFile = [ "spec" ];
  };
in
plan: lockText: accepted:
let
  inherit (plan) profile;
  lock = builtins.fromJSON lockText;

  # A locked file. Whoever has its content can add it to a store (nix-store --add-fixed sha256 FILE);
  # this derivation only says how to get it.
  locked = { file, sha256, ... }: derivation {
    name = file;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "echo 'rave: ${file} is not in the store; run: rave vm build-image --profile ${profile} --base debian' >&2; exit 1" ];
    outputHash = sha256;
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
  };
  role = name: builtins.filter (package: package.role == name) lock.packages;
  one = list: builtins.head list;
  files = (lock.files or [ ]) ++ builtins.concatMap (one: one.files) accepted;
  # What there is without anything accepted is the lock's own text.
  lockWritten =
    if accepted == [ ] then lockText
    else builtins.toJSON (lock // {
      inherit files;
      requested = lock.requested // { tarballs = builtins.foldl' (all: one: all // one.requested.tarballs) (lock.requested.tarballs or { }) accepted; };
    });

  checked = value:
    if lock.version != 3 then throw "the lock of profile ${profile} has another format; run: rave vm lock-closure --profile ${profile}"
    else if lock.requested == request packages (catalog.debianRequest profile) then value
    else throw "the lock of profile ${profile} was made for other packages; run: rave vm lock-closure --profile ${profile}";
  checkedToo = value:
    if map (one: one.requested) accepted == map catalog.acceptedRequest (plan.accepted or [ ]) then value
    else throw "what is locked of ${toString plan.accepted} was made for other packages; run: rave vm lock-closure --profile ${profile}";

  base = run {
    name = "rave-debian-base";
    program = "base.py";
    files = [ "base.py" "guestroot.py" ];
    spec = {
      inherit (lock) epoch;
      kernel = locked (one (role "kernel"));
      packages = map (package: { inherit (package) name; essential = package.role == "essential"; file = locked package; })
        (builtins.filter (package: package.role == "essential" || package.role == "guest") lock.packages);
    };
  };

  # A service's wheels and tarballs, each set a derivation of its own: a change of our code, of another set or of
  # another profile builds none of them again.
  setOf = id: builtins.filter (file: (file.service or "") == id) files;
  lockedOf = kind: id: map (file: { inherit (file) name; file = locked file; }) (builtins.filter (file: file.kind == kind) (setOf id));
  set = id: run {
    name = "rave-debian-set-${id}";
    program = "sealed.py";
    files = [ "sealed.py" "launcher.py" "guestroot.py" ];
    spec = {
      inherit (lock) epoch;
      inherit base;
      name = id;
      wheels = lockedOf "wheel" id;
      tarballs = lockedOf "npm" id;
    };
  };

  # A service's folder: `rootfs` is laid over the root, the rest prepares it while the image is built.
  folder = id: ./services + "/${id}";
  carried = builtins.filter (id: builtins.pathExists (folder id)) (builtins.attrNames plan.services);
  overlaid = builtins.filter (id: builtins.pathExists (folder id + "/rootfs")) carried;

  # What one of rave's own brings is no version of it.
  ours = id: let own = catalog.services.${id}.bases.debian; in own.ours or false || own.platform or false;

  # Of each service the version of what it is, where the lock has that: for people.
  versionOf = id:
    let
      own = if ours id then { } else catalog.services.${id}.bases.debian;
      first = list: if list == [ ] then null else builtins.head (builtins.match "([A-Za-z0-9_.-]+).*" (builtins.head list));
      # A scope is part of a package's name: "@team/tool@1.2.3".
      tarball = list: if list == [ ] then null else builtins.head (builtins.match "(@?[^@]+)@.*" (builtins.head list));
      of = name: from: map (found: found.version) (builtins.filter (found: found.name == name) from);
      found = of (first (own.packages or [ ])) lock.packages ++ of (tarball (own.tarballs or [ ])) (setOf id) ++ of (first (own.wheels or [ ])) (setOf id);
    in
    if found == [ ] then [ ] else [ { name = id; value = builtins.head found; } ];
  versions = builtins.listToAttrs (builtins.concatMap versionOf (builtins.attrNames plan.services));

  # rave's own services see src/rave_platform beside what it runs with.
  own = builtins.filter (id: catalog.services.${id}.bases.debian.platform or false) (builtins.attrNames plan.services);

  image = run {
    name = "rave-debian-image-${profile}";
    program = "image.py";
    files = [ "image.py" "guestroot.py" "initrd.py" "ext4.py" "qcow2.py" ];
    spec = {
      inherit (lock) epoch;
      inherit (plan) qcow;
      inherit base;
      name = plan.attr;
      overlays = [ (source "rave-rootfs" ./rootfs) ] ++ map (id: source "rave-rootfs-${id}" (folder id + "/rootfs")) overlaid;
      guest = source "rave-guest" guest;
      programs = source "rave-programs" ../guest;
      build = {
        configure = source "rave-configure" ./configure;
        "generate.py" = source "rave-generate" ./generate.py;
        templates = source "rave-templates" ./templates;
      } // builtins.listToAttrs (map (id: { name = "services/${id}"; value = source "rave-service-${id}" (folder id); }) carried);
      initrd = source "rave-initrd" ./initrd;
      tools = map locked (role "tool");
      sets = map set (builtins.filter (id: setOf id != [ ]) (builtins.attrNames plan.services));
      platform = if own == [ ] then null else { sets = own; source = source "rave-platform" platform; };
      binaries = map (file: { inherit (file) name; file = locked file; }) (builtins.filter (file: file.kind == "program") files);
      plan = builtins.toFile "rave-plan.json" (builtins.toJSON (plan // { inherit versions; }));
      carried = builtins.toFile "rave-carried.json" (builtins.toJSON (import ../catalog/carried.nix plan));
      lock = builtins.toFile "rave-lock.json" lockWritten;
      diskGiB = plan.resources.safe.diskGiB;
      data = catalog.debianData profile (plan.accepted or [ ]);
      loads = builtins.filter (id: catalog.services.${id}.bases.debian.loads or false) (builtins.attrNames plan.services);
      cmdline = packages.cmdline;
    };
  };
in
checked (checkedToo { inherit base image; })
