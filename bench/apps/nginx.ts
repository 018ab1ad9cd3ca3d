/** The application of HTTP rows: nginx with fixed bodies. Below /item/ 1 KB, and other sizes below their own folders. */
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { Stage } from '../stage.ts';

export async function startNginx(stage: Stage): Promise<ChildProcess> {
  const { dir } = stage;
  const file = stage.file('app.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((n) => `${n}_temp_path ${dir}/app-${n};`)
    .join(' ');
  for (const [name, bytes] of [
    ['64k', 65_536],
    ['1m', 1_048_576],
  ] as const) {
    writeFileSync(stage.file(name), 'x'.repeat(bytes), { mode: 0o644 });
  }
  writeFileSync(
    file,
    `daemon off; master_process off; worker_processes 1; pid ${dir}/app.pid; error_log ${dir}/app.log;
worker_rlimit_nofile 40000;
events { worker_connections 16384; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on; open_file_cache max=16; ${temporary}
server { listen ${stage.addresses.app}:${stage.appPorts.http} backlog=4096; default_type text/plain;
location / { return 200 "${'x'.repeat(1024)}"; }
location /item/64k/ { root ${dir}; try_files /64k =404; }
location /item/1m/ { root ${dir}; try_files /1m =404; } } }\n`,
  );
  const child = stage.start('load', ['nginx', '-c', file, '-e', `${dir}/app.log`]);
  await stage.listening(stage.addresses.app, stage.appPorts.http, child);
  return child;
}
