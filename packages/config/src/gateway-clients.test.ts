/** Who a gateway lets in by a certificate: hashes and several CAs of Istio's servers, `frontend` of the Gateway API. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClientCertificate } from '@weft/plan';
import type { SourceFile } from './index.ts';
import { CERT, doc, gateway, https, KEY, load, must, planOf, process, secret } from './test-gateway.ts';

const pem = (text: string): string => `-----BEGIN CERTIFICATE-----\n${btoa(text)}\n-----END CERTIFICATE-----\n`;
const file = (path: string, text: string): SourceFile => ({ path: `mesh/${path}`, text });
const pair = '{serverCertificate: a.crt, privateKey: a.key';
const files = [file('a.crt', CERT), file('a.key', KEY), file('one.crt', pem('one')), file('two.crt', pem('two'))];
const HEX = '0123456789abcdef'.repeat(4);
const KEY_HASH = btoa('k'.repeat(32));

/** What is wrong, as code and field; each message must hold for `wanted`. */
function refused(text: string, code: string, field: string, wanted: RegExp): void {
  const { problems } = load(text, files);
  const found = problems.find((p) => p.code === code && p.field === field);
  assert.ok(found, `${text}\n${JSON.stringify(problems, null, 1)}`);
  assert.match(found.message, wanted);
}

test('hashes of certificates and keys: in hex with and without colons, and in base64', () => {
  const colons = HEX.toUpperCase().match(/../g)!.join(':');
  const said = `{mode: MUTUAL, credentialName: c, verifyCertificateHash: ["${HEX}", "${colons}"], verifyCertificateSpki: ["${KEY_HASH}"]}`;
  const ca = secret('c', 'shop', `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}, ca.crt: ${btoa(pem('ca'))}}`);
  const { listeners } = planOf(must([gateway(https(said)), ca].join('---\n')));
  const { tls } = listeners[0].servers[0];
  assert.deepEqual(tls?.certificateHashes, [HEX, HEX]);
  assert.deepEqual(tls?.keyHashes, [KEY_HASH]);
  const at = 'spec.servers[0].tls';
  const server = (tls: string) => `${gateway(https(tls))}---\n${ca}`;
  const hashes = (text: string) => server(`{mode: MUTUAL, credentialName: c, verifyCertificateHash: ["${text}"]}`);
  for (const bad of [HEX.slice(1), `${HEX}00`, HEX.replace('a', 'x'), `${colons}:`, colons.replace(':', '')]) {
    refused(hashes(bad), 'WEFT-VALUE', `${at}.verifyCertificateHash[0]`, /SHA-256 in hex/);
  }
  for (const bad of [HEX, btoa('short'), `${KEY_HASH.slice(0, 42)}/=`]) {
    const text = server(`{mode: MUTUAL, credentialName: c, verifyCertificateSpki: ["${bad}"]}`);
    refused(text, 'WEFT-VALUE', `${at}.verifyCertificateSpki[0]`, /SHA-256 in base64/);
  }
  const many = `[${Array.from({ length: 101 }, () => `"${HEX}"`)}]`;
  const past = server(`{mode: MUTUAL, credentialName: c, verifyCertificateHash: ${many}}`);
  refused(past, 'WEFT-VALUE', `${at}.verifyCertificateHash`, /more than 100/);
  for (const [name, value] of [
    ['verifyCertificateHash', HEX],
    ['verifyCertificateSpki', KEY_HASH],
  ]) {
    const text = server(`{mode: SIMPLE, credentialName: c, ${name}: ["${value}"]}`);
    refused(text, 'WEFT-VALUE', `${at}.${name}`, /asks clients for no certificate/);
  }
});

test('CAs beside several certificates hold together', () => {
  const both = `[${pair}, caCertificates: one.crt}, ${pair}, caCertificates: two.crt}, ${pair}, caCertificates: one.crt}]`;
  const { listeners, secrets } = planOf(must(gateway(https(`{mode: MUTUAL, tlsCertificates: ${both}}`)), files));
  const { tls } = listeners[0].servers[0];
  const judge = secrets.find((s) => s.name === tls?.authority);
  assert.equal(judge?.caPem, `${pem('one')}\n${pem('two')}`);
  assert.equal(tls?.clientCertificate, ClientCertificate.REQUIRED);
  const at = 'spec.servers[0].tls';
  const one = (rest: string, ca = 'one.crt') =>
    gateway(https(`{tlsCertificates: [${pair}, caCertificates: ${ca}}]${rest}}`));
  refused(one(', mode: SIMPLE'), 'WEFT-VALUE', `${at}.tlsCertificates[0].caCertificates`, /mode SIMPLE asks/);
  refused(
    one(', mode: MUTUAL, caCertificates: two.crt'),
    'WEFT-VALUE',
    `${at}.tlsCertificates[0].caCertificates`,
    /own caCertificates judge/,
  );
  refused(one(', mode: MUTUAL', 'none.crt'), 'WEFT-NO-FILE', `${at}.tlsCertificates[0].caCertificates`, /none\.crt/);
  refused(one(', mode: MUTUAL', 'a.key'), 'WEFT-CERTIFICATE', `${at}.tlsCertificates[0].caCertificates`, /no PEM/);
  refused(gateway(https(`{tlsCertificates: [${pair}}], mode: MUTUAL}`)), 'WEFT-FIELD', at, /needs caCertificates/);
  refused(
    `${one(', mode: MUTUAL, caCertCredentialName: c')}---\n${secret('c', 'shop', `{ca.crt: ${btoa(pem('ca'))}}`)}`,
    'WEFT-VALUE',
    `${at}.tlsCertificates[0].caCertificates`,
    /where a Secret has the CA/,
  );
});

const API = 'gateway.networking.k8s.io/v1';
const SITE = process('own', '{gateway.networking.k8s.io/gateway-name: site}', '{gateway: {}}');
const roots = (name: string, ns = 'shop') =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: ${ns}}\ndata: {ca.crt: "${pem(name).replaceAll('\n', '\\n')}"}\n`;
const listener = (name: string, port: number, more = '', protocol = 'HTTPS') =>
  `{name: ${name}, port: ${port}, hostname: ${name}.test, protocol: ${protocol}, tls: {certificateRefs: [{name: c}]${more}}}`;
const refs = (...names: string[]) =>
  `{caCertificateRefs: [${names.map((n) => `{group: "", kind: ConfigMap, name: ${n}}`)}]}`;
const site = (listeners: string[], tls = '') =>
  doc('Gateway', 'site', `{gatewayClassName: weft, listeners: [${listeners}]${tls}}`, API);

test('clients of a Gateway: of a listener before a port before all, by ConfigMaps and Secrets', () => {
  const frontend = `{default: {validation: ${refs('all')}}, perPort: [{port: 444, tls: {validation: ${refs('port', 'more')}}}, {port: 445, tls: {}}]}`;
  const docs = [
    SITE,
    secret('c'),
    ...['all', 'port', 'more', 'own'].map((n) => roots(n)),
    secret('s', 'shop', `{ca.crt: ${btoa(pem('s'))}}`),
    site(
      [
        listener('a', 443),
        listener('b', 443, `, frontendValidation: ${refs('own')}`),
        listener('d', 444),
        listener('e', 445),
        listener('f', 446, ', frontendValidation: {caCertificateRefs: [{group: "", kind: Secret, name: s}]}', 'TLS'),
        listener('g', 446, '', 'TLS'),
      ],
      `, tls: {frontend: ${frontend}}`,
    ),
  ];
  const { problems } = load(docs.join('---\n'));
  assert.deepEqual(
    problems.map((p) => [p.code, p.field]),
    [['WEFT-NO-EFFECT', 'spec.listeners[5]']],
  );
  const { listeners, secrets } = planOf(must(docs.join('---\n')), 'own');
  const judges = listeners.flatMap((l) =>
    l.servers.map(({ hosts, tls }) => {
      const judge = secrets.find((s) => s.name === tls?.authority);
      return [
        hosts[0],
        tls?.clientCertificate,
        (judge?.caPem ?? '')
          .replaceAll(/-----.*-----|\n/g, ' ')
          .split(/ +/)
          .filter(Boolean)
          .map(atob),
      ];
    }),
  );
  const required = ClientCertificate.REQUIRED;
  assert.deepEqual(judges, [
    ['a.test', required, ['all']],
    ['b.test', required, ['own']],
    ['d.test', required, ['port', 'more']],
    ['e.test', ClientCertificate.UNSPECIFIED, []],
    ['f.test', required, ['s']],
    ['g.test', ClientCertificate.UNSPECIFIED, []],
  ]);
});

test('clients of a Gateway: what is refused or told', () => {
  const with_ = (...docs: string[]) => [SITE, secret('c'), ...docs].join('---\n');
  const own = (validation: string) =>
    with_(roots('r'), site([listener('a', 443, `, frontendValidation: ${validation}`)]));
  const at = 'spec.listeners[0].tls.frontendValidation';
  refused(own(refs('nobody')), 'WEFT-NO-CONFIGMAP', `${at}.caCertificateRefs[0]`, /ConfigMap nobody .* one: r/);
  refused(
    own('{caCertificateRefs: [{kind: Pod, name: r}]}'),
    'WEFT-VALUE',
    `${at}.caCertificateRefs[0].kind`,
    /ConfigMap or/,
  );
  refused(own('{caCertificateRefs: []}'), 'WEFT-VALUE', `${at}.caCertificateRefs`, /at least 1/);
  refused(
    own('{caCertificateRefs: [{kind: Secret, name: c}]}'),
    'WEFT-NO-SECRET',
    `${at}.caCertificateRefs[0]`,
    /ca\.crt/,
  );
  const lenient = '{mode: AllowInsecureFallback, caCertificateRefs: [{kind: ConfigMap, name: r}]}';
  refused(own(lenient), 'WEFT-VALUE', `${at}.mode`, /nobody judges/);
  const far = '{caCertificateRefs: [{group: "", kind: ConfigMap, name: r, namespace: far}]}';
  refused(`${own(far)}---\n${roots('r', 'far')}`, 'WEFT-NO-GRANT', `${at}.caCertificateRefs[0]`, /ConfigMap far\/r/);
  const grant = doc(
    'ReferenceGrant',
    'g',
    '{from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}], to: [{group: "", kind: ConfigMap}]}',
    'gateway.networking.k8s.io/v1beta1',
    'far',
  );
  must([own(far), roots('r', 'far'), grant].join('---\n'));
  const frontend = (said: string) => with_(roots('r'), site([listener('a', 443)], `, tls: {frontend: ${said}}`));
  const place = 'spec.tls.frontend';
  refused(frontend('{}'), 'WEFT-FIELD', `${place}.default`, /missing/);
  const twice = '{default: {}, perPort: [{port: 443, tls: {}}, {port: 443, tls: {}}]}';
  refused(frontend(twice), 'WEFT-VALUE', `${place}.perPort[1].port`, /twice/);
  const unused = '{default: {}, perPort: [{port: 9, tls: {}}]}';
  refused(frontend(unused), 'WEFT-NO-EFFECT', `${place}.perPort[0].port`, /port 9/);
  const plain = with_(
    roots('r'),
    site(['{name: h, port: 80, protocol: HTTP}'], `, tls: {frontend: {default: {validation: ${refs('r')}}}}`),
  );
  refused(plain, 'WEFT-NO-EFFECT', `${place}.default`, /no listener of protocol HTTPS/);
  const passes = with_(
    roots('r'),
    site([`{name: p, port: 443, protocol: TLS, tls: {mode: Passthrough, frontendValidation: ${refs('r')}}}`]),
  );
  refused(passes, 'WEFT-VALUE', at, /sees no certificates/);
});
