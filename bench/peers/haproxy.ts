/** HAProxy twice, an HTTP/2 link over mutual TLS between them: request id, retries, timeouts, caller's identity checked. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { type Certificate, type Chain, type Kind, otherPaths, type Peer, type Stage } from '../stage.ts';

const PORTS = { front: 16_001, back: 16_008 };
const TLS = 'ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256';

export const haproxy: Peer = {
  name: 'haproxy',
  needs: { haproxy: 'haproxy' },
  kinds: ['http', 'grpc', 'tcp', 'websocket'],
  version() {
    return execFileSync('haproxy', ['-v'], { encoding: 'utf8' })
      .split('\n')[0]!
      .replace(/ version|-\S+| \d{4}.*/g, '');
  },
  start(stage: Stage, kind: Kind): Promise<Chain> {
    const children = (['front', 'back'] as const).map((side) => {
      const file = stage.file(`haproxy-${kind}-${side}.cfg`);
      writeFileSync(file, side === 'front' ? front(stage, kind) : back(stage, kind));
      return stage.start('proxies', ['haproxy', '-db', '-q', '-f', file]);
    });
    return stage.chain('haproxy', kind, children, PORTS);
  },
};

function common(kind: Kind): string {
  return `global
  nbthread 1
  maxconn ${kind === 'websocket' ? 12_000 : 9000}
  no strict-limits
defaults
  mode ${kind === 'tcp' ? 'tcp' : 'http'}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  retries 2
  ${kind === 'tcp' ? '' : 'http-reuse always'}
`;
}

function front(stage: Stage, kind: Kind): string {
  const { pem, root } = credentials(stage, 'front', stage.certificates.front);
  const { front, back } = stage.addresses;
  const server = `server s ${back}:${PORTS.back} ssl crt ${pem} ca-file ${root} verify required ${TLS}`;
  if (kind === 'tcp') return `${common(kind)}listen f\n  bind ${front}:${PORTS.front}\n  ${server}\n`;
  return `${common(kind)}frontend f
  bind ${front}:${PORTS.front} ${kind === 'grpc' ? 'proto h2' : ''}
  unique-id-format %{+X}o%ci%cp%Ts%rt%pid
  unique-id-header x-request-id
  default_backend b
backend b
  ${kind === 'websocket' ? '' : 'timeout server 15s'}
  retry-on conn-failure 503
  ${server} alpn h2${kind === 'websocket' ? ' ws h2' : ''}
`;
}

function back(stage: Stage, kind: Kind): string {
  const { pem, root } = credentials(stage, 'back', stage.certificates.back);
  const { back, app } = stage.addresses;
  const bind = `bind ${back}:${PORTS.back} ssl crt ${pem} ca-file ${root} verify required ${TLS}`;
  const server = `server s ${app}:${stage.appPorts[kind]}`;
  // This version has no fetch for a SAN: the one client that may ask is known by its certificate.
  const { fingerprint } = new X509Certificate(stage.certificates.front.chainPem);
  const caller = `{ ssl_c_sha1,hex -m str ${fingerprint.replaceAll(':', '')} }`;
  const prefixes = stage.file('haproxy-paths.txt');
  writeFileSync(prefixes, [...otherPaths(stage.rules), '/item/', '/bench.Echo/'].join('\n'));
  // Prefixes of a file are a tree: the fastest that it has.
  const paths = stage.rules === 1 ? '{ path_beg /item/ /bench.Echo/ }' : `{ path_beg -f ${prefixes} }`;
  if (kind === 'tcp')
    return `${common(kind)}listen f\n  ${bind}\n  tcp-request session reject unless ${caller}\n  ${server}\n`;
  return `${common(kind)}frontend f
  ${bind} alpn h2
  http-request deny unless ${caller}
  http-request deny unless { method GET POST CONNECT } ${paths}
  default_backend b
backend b
  ${server} ${kind === 'grpc' ? 'proto h2' : ''}
`;
}

function credentials(stage: Stage, side: string, certificate: Certificate): { pem: string; root: string } {
  const pem = stage.file(`haproxy-${side}.pem`);
  const root = stage.file('haproxy-root.pem');
  writeFileSync(pem, certificate.chainPem + certificate.keyPem, { mode: 0o600 });
  writeFileSync(root, certificate.rootPem);
  return { pem, root };
}
