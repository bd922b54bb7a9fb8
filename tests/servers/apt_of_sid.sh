# Sourced: gives this shell a private apt that reads Debian's sid through the mirror that this machine already uses.
# Nothing is installed. $apt is its folder, which goes when the shell ends.
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/{lists/partial,archives/partial,debs,sources,none}

: > "$apt/status"
sed -E '/^#/d; s/^Suites:.*/Suites: sid/' /etc/apt/sources.list.d/debian.sources \
	| awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1' > "$apt/sources/sid.sources"
cat > "$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferencesparts "$apt/none";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
CONF
export APT_CONFIG=$apt/apt.conf

apt-get update -qq
cd "$apt/debs"
