# Where the guest's packages come from. rave's apt asks exactly these suites and believes exactly these keys
# (in keys/, by fingerprint); the address of a mirror is the host's or the operator's affair. Recorded in each lock.
{
  release = "bookworm";
  archives = [
    {
      name = "debian";
      suites = [ "bookworm" "bookworm-updates" ];
      # Debian Archive Automatic Signing Key, Debian Stable Release Key (12/bookworm)
      keys = [ "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8" "4D64FEC119C2029067D6E791F8D2585B8783D481" ];
    }
    {
      name = "debian-security";
      suites = [ "bookworm-security" ];
      # Debian Security Archive Automatic Signing Key (12/bookworm)
      keys = [ "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0" ];
    }
  ];
  # Of a newer release, what this one does not have: those packages alone, and only where they are asked for.
  newer = [
    {
      name = "debian";
      suites = [ "trixie" ];
      # Debian Archive Automatic Signing Key, Debian Stable Release Key (13/trixie)
      keys = [ "04B54C3CDCA79751B16BC6B5225629DF75B188BD" "41587F7DB8C774BCCF131416762F67A0B2C39DE4" ];
      only = [ "pagure" ];
    }
  ];
}
