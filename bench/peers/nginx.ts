/** nginx twice, kept-alive HTTP/1.1 connections over mutual TLS between them (this version speaks no HTTP/2 to an upstream). */
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Chain, Kind, Peer, Stage } from '../stage.ts';

const PORTS = { front: 17_001, back: 17_008 };

export const nginx: Peer = {
  name: 'nginx',
  needs: { nginx: 'nginx-light' },
  kinds: ['http'],
  version() {
    return spawnSync('nginx', ['-v'], { encoding: 'utf8' }).stderr.trim().replace('nginx version: ', '');
  },
  start(stage: Stage, kind: Kind): Promise<Chain> {
    const children = (['front', 'back'] as const).map((side) => {
      const file = stage.file(`nginx-${side}.conf`);
      const own = stage.certificates[side];
      writeFileSync(stage.file(`nginx-${side}.crt`), own.chainPem);
      writeFileSync(stage.file(`nginx-${side}.key`), own.keyPem, { mode: 0o600 });
      writeFileSync(stage.file('nginx-root.crt'), own.rootPem);
      writeFileSync(file, config(stage, side, side === 'front' ? front(stage) : back(stage)));
      return stage.start('proxies', ['nginx', '-c', file, '-e', stage.file(`nginx-${side}.log`)]);
    });
    return stage.chain('nginx', kind, children, PORTS);
  },
};

function config(stage: Stage, side: string, http: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((n) => `${n}_temp_path ${stage.file(`nginx-${side}-${n}`)};`)
    .join(' ');
  const log = stage.file(`nginx-${side}.log`);
  return `daemon off; master_process off; worker_processes 1; pid ${stage.file(`nginx-${side}.pid`)}; error_log ${log};
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; ${temporary}
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id;
proxy_next_upstream error timeout; proxy_next_upstream_tries 3; proxy_max_temp_file_size 0;
${http}
}
`;
}

function front(stage: Stage): string {
  const { front, back } = stage.addresses;
  // The back's certificate names a SPIFFE id and no DNS name, and nginx can verify only the latter. It would cost nothing
  // per request: connections are kept.
  return `upstream b { server ${back}:${PORTS.back}; keepalive 128; keepalive_requests 1000000000; }
server { listen ${front}:${PORTS.front} backlog=4096;
location / { proxy_pass https://b; proxy_read_timeout 15s; proxy_ssl_protocols TLSv1.3;
proxy_ssl_certificate ${stage.file('nginx-front.crt')}; proxy_ssl_certificate_key ${stage.file('nginx-front.key')};
proxy_ssl_verify off; proxy_ssl_session_reuse off; } }`;
}

function back(stage: Stage): string {
  const { back, app } = stage.addresses;
  // A SPIFFE id is no variable here: the one client that may ask is known by its certificate.
  const { fingerprint } = new X509Certificate(stage.certificates.front.chainPem);
  return `upstream a { server ${app}:${stage.appPorts.http}; keepalive 128; keepalive_requests 1000000000; }
server { listen ${back}:${PORTS.back} ssl backlog=4096; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
ssl_certificate ${stage.file('nginx-back.crt')}; ssl_certificate_key ${stage.file('nginx-back.key')};
ssl_client_certificate ${stage.file('nginx-root.crt')}; ssl_verify_client on; ssl_verify_depth 3; ssl_session_tickets off;
if ($ssl_client_fingerprint != ${fingerprint.replaceAll(':', '').toLowerCase()}) { return 403; }
location /item/ { limit_except GET POST { deny all; } proxy_pass http://a; proxy_read_timeout 15s; }
location / { return 403; } }`;
}
