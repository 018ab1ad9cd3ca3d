/** Real servers for the proxy to forward to, each set to its most lenient, that tell every request line they saw. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { freePorts } from './ports.ts';
import type { SuiteContext } from './suite.ts';

export interface Backend {
  readonly name: string;
  readonly port: number;
  /** Request lines in the order of their arrival; what the server could not read too. */
  lines(): string[];
}

async function listening(name: string, port: number, child: ChildProcess, said: () => string): Promise<void> {
  for (const end = Date.now() + 60_000; ; ) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = net.connect({ host: '127.0.0.1', port }, () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (ok) return;
    if (child.exitCode !== null || Date.now() > end) throw new Error(`${name} does not listen: ${said()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Its standard output goes to a file: to a pipe that is full HAProxy writes no log. Gives the file. */
async function spawnServer(ctx: SuiteContext, name: string, port: number, argv: string[]): Promise<string> {
  const file = join(ctx.dir, `${name}.out`);
  const out = openSync(file, 'w');
  const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', out, 'pipe'] });
  closeSync(out);
  const errors: string[] = [];
  child.stderr?.on('data', (d) => errors.push(d.toString('latin1')));
  child.on('error', (error) => errors.push(error.message));
  ctx.cleanup(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    const force = setTimeout(() => child.kill('SIGKILL'), 3000);
    await gone;
    clearTimeout(force);
  });
  await listening(name, port, child, () => errors.join('').trim());
  return file;
}

const read = (file: string): string[] => {
  try {
    return readFileSync(file, 'latin1').split('\n').filter(Boolean);
  } catch {
    return [];
  }
};

async function nginx(ctx: SuiteContext): Promise<Backend> {
  const port = await freePorts('127.0.0.1');
  const dir = join(ctx.dir, 'nginx');
  mkdirSync(dir);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((n) => `${n}_temp_path ${dir}/${n};`)
    .join(' ');
  writeFileSync(
    `${dir}/nginx.conf`,
    `daemon off; master_process off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error;
events { worker_connections 4096; }
http { log_format lines escape=none '$request'; access_log ${dir}/log lines; ${temporary}
  keepalive_requests 1000000; merge_slashes off; underscores_in_headers on; client_max_body_size 0;
  server { listen 127.0.0.1:${port} backlog=1024; location / { default_type text/plain; return 200 "ok\\n"; } } }\n`,
  );
  await spawnServer(ctx, 'nginx', port, ['nginx', '-c', `${dir}/nginx.conf`, '-e', `${dir}/error`]);
  return { name: 'nginx', port, lines: () => read(`${dir}/log`) };
}

async function apache(ctx: SuiteContext): Promise<Backend> {
  const port = await freePorts('127.0.0.1');
  const dir = join(ctx.dir, 'apache');
  mkdirSync(`${dir}/www`, { recursive: true });
  const modules = ['mpm_event', 'authz_core', 'rewrite']
    .map((m) => `LoadModule ${m}_module /usr/lib/apache2/modules/mod_${m}.so`)
    .join('\n');
  // `%r` of a line that cannot be read is empty.
  writeFileSync(
    `${dir}/httpd.conf`,
    `ServerRoot ${dir}
ServerName app
Listen 127.0.0.1:${port}
PidFile ${dir}/pid
DefaultRuntimeDir ${dir}
${modules}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 64
ServerLimit 1
ListenBacklog 1024
ErrorLog ${dir}/error
LogFormat "%>s %r" lines
CustomLog ${dir}/log lines
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
HttpProtocolOptions Unsafe LenientMethods Allow0.9
MergeSlashes Off
DocumentRoot ${dir}/www
RewriteEngine On
RewriteRule .* - [R=204,L]
`,
  );
  await spawnServer(ctx, 'apache', port, ['apache2', '-f', `${dir}/httpd.conf`, '-DFOREGROUND']);
  return { name: 'apache', port, lines: () => read(`${dir}/log`).map((l) => l.slice(4).replaceAll('\\"', '"')) };
}

async function haproxy(ctx: SuiteContext): Promise<Backend> {
  const port = await freePorts('127.0.0.1');
  const file = join(ctx.dir, 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  log stdout format raw local0
  maxconn 4000
defaults
  mode http
  log global
  timeout client 60s
  timeout http-request 60s
  timeout http-keep-alive 60s
  timeout connect 5s
  timeout server 60s
  option accept-invalid-http-request
  option dontlognull
frontend lines
  log-format "%{+Q}r"
  bind 127.0.0.1:${port} backlog 1024
  http-request wait-for-body time 5s
  http-request return status 200 content-type text/plain string "ok"\n`,
  );
  const log = await spawnServer(ctx, 'haproxy', port, ['haproxy', '-f', file]);
  return {
    name: 'haproxy',
    port,
    // A line is in quotes; it writes a quote as #22.
    lines: () =>
      read(log).map((line) =>
        line
          .slice(1, -1)
          .replace(/#([0-9A-F]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))),
      ),
  };
}

async function node(ctx: SuiteContext): Promise<Backend> {
  const lines: string[] = [];
  const server = http.createServer({ insecureHTTPParser: true, requireHostHeader: false }, (req, res) => {
    lines.push(`${req.method} ${req.url} HTTP/${req.httpVersion}`);
    req.on('error', () => {});
    req.on('data', () => {});
    req.on('end', () => res.end('ok\n'));
  });
  server.keepAliveTimeout = 60_000;
  server.on('clientError', (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket) => {
    // The end inside a body is a request that was given up, and is logged already. What else cannot be read (a method
    // that Node does not know, say) is shown as it came.
    if (error.code?.startsWith('HPE_') && error.code !== 'HPE_INVALID_EOF_STATE') {
      lines.push(error.rawPacket?.toString('latin1').split('\r\n')[0] ?? error.code);
    }
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, resolve));
  ctx.cleanup(() => {
    server.close();
    server.closeAllConnections();
  });
  return { name: 'node', port: (server.address() as net.AddressInfo).port, lines: () => lines };
}

async function python(ctx: SuiteContext): Promise<Backend> {
  const port = await freePorts('127.0.0.1');
  const file = join(ctx.dir, 'python.log');
  const script = join(import.meta.dirname, 'backends/lenient.py');
  await spawnServer(ctx, 'python', port, ['python3', script, String(port), file]);
  return { name: 'python', port, lines: () => read(file) };
}

/** Debian packages of them, for `debian()`. */
export const backendPackages = { nginx: 'nginx-light', apache2: 'apache2-bin', haproxy: 'haproxy', python3: 'python3' };

/** Starts all; they end with the suite. */
export function startBackends(ctx: SuiteContext): Promise<Backend[]> {
  return Promise.all([nginx, apache, haproxy, node, python].map((start) => start(ctx)));
}
