/** What who attacks a mesh has: certificates of all kinds, connections that judge nobody, and places to be in. */
import { type ChildProcess, spawn } from 'node:child_process';
import http2 from 'node:http2';
import type net from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import tls from 'node:tls';
import { VirtualClock } from '@weft/base';
import { createAuthority, createKeyAndCsr } from '@weft/identity';
import type { TestMesh } from './harness.ts';

const DAY_MS = 86_400_000;
const WEFT_SETTING = 0xf0f0;

export interface Proof {
  key?: string;
  cert?: string;
}

/** Certificates as an attacker may have them, and one that is right. */
export async function proofs(mesh: TestMesh, folder: string) {
  const own = join(mesh.state, mesh.name, 'control', 'ca');
  const issue = async (dir: string, account: string, clock?: VirtualClock): Promise<Proof> => {
    const authority = await createAuthority({ dir, trustDomain: 'cluster.local', clock });
    const { keyPem, csrPem } = await createKeyAndCsr();
    const spiffeId = `spiffe://cluster.local/ns/shop/sa/${account}`;
    const { chainPem } = await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 });
    return { key: keyPem, cert: chainPem };
  };
  return {
    right: await issue(own, 'cart'),
    another: await issue(own, 'mallory'),
    untrusted: await issue(join(folder, 'stranger'), 'cart'),
    expired: await issue(own, 'cart', new VirtualClock(Date.now() - DAY_MS)),
    none: {} as Proof,
  };
}

/** A TLS connection of any proof; the server is not judged, since this is the attacker. */
export function connect(host: string, port: number, proof: Proof, alpn: string[]): tls.TLSSocket {
  return tls.connect({ host, port, ...proof, ALPNProtocols: alpn, rejectUnauthorized: false, minVersion: 'TLSv1.3' });
}

/** What a server answers to `say`: its bytes, and how it ended. A TLS 1.3 server refuses after the client's handshake. */
export function converse(socket: net.Socket, say: string, until: RegExp, timeoutMs = 60_000) {
  return new Promise<{ text: string; end: string }>((resolve) => {
    let text = '';
    let end = 'closed';
    const timer = setTimeout(() => {
      end = 'open';
      socket.destroy();
    }, timeoutMs);
    socket.on('data', (d) => {
      text += d.toString('latin1');
      if (until.test(text)) {
        end = 'answered';
        socket.destroy();
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      end = error.code ?? error.message;
    });
    socket.on('close', () => {
      clearTimeout(timer);
      resolve({ text, end });
    });
    socket.on(socket instanceof tls.TLSSocket ? 'secureConnect' : 'connect', () => socket.write(say));
  });
}

export interface Answer {
  status: string;
  text: string;
}

/** One HTTP/2 stream: its `:status` and `grpc-status`, or why there was none. */
export function stream(
  session: http2.ClientHttp2Session,
  head: http2.OutgoingHttpHeaders,
  body?: Buffer,
): Promise<Answer> {
  return new Promise((resolve) => {
    let status = '';
    let text = '';
    const s = session.request(head, { endStream: body === undefined && head[':method'] !== 'CONNECT' });
    const timer = setTimeout(() => {
      if (status === '') status = 'open';
      s.close(http2.constants.NGHTTP2_CANCEL);
    }, 60_000);
    const done = (): void => {
      clearTimeout(timer);
      resolve({ status, text });
    };
    s.on('response', (h) => {
      status = h['grpc-status'] ? `grpc ${h['grpc-status']}` : String(h[':status']);
      if (head[':method'] === 'CONNECT') s.close(http2.constants.NGHTTP2_CANCEL);
    });
    s.on('trailers', (h) => {
      if (h['grpc-status']) status = `grpc ${h['grpc-status']}`;
    });
    s.on('data', (d: Buffer) => {
      text += d.toString('latin1');
      // The first message of a subscription: it goes on for ever.
      if (String(head[':path']).includes('Delta')) {
        status = 'plan';
        s.close(http2.constants.NGHTTP2_CANCEL);
      }
    });
    s.on('error', (error: NodeJS.ErrnoException) => {
      if (status === '' || status === '200') status = error.code ?? error.message;
    });
    s.on('close', done);
    if (body) s.end(body);
  });
}

/** An HTTP/2 session; `weft`: it announces itself as a proxy of ours, so that its mesh headers would count. */
export async function session(socket: tls.TLSSocket, weft = false): Promise<http2.ClientHttp2Session> {
  const s = http2.connect('https://x', {
    createConnection: () => socket,
    settings: weft ? { customSettings: { [WEFT_SETTING]: 1 } } : {},
    remoteCustomSettings: [WEFT_SETTING],
  });
  s.on('error', () => {});
  await new Promise((resolve) => {
    s.once('remoteSettings', resolve);
    s.once('close', resolve);
    s.once('error', resolve);
  });
  return s;
}

/** A program in a workload's own namespace, as an ordinary user, as root (true) or as a user of that number. */
export function inside(
  t: TestContext,
  mesh: TestMesh,
  workload: string,
  root: boolean | number,
  source: string,
): ChildProcess {
  const uid = root === false ? 65_534 : root;
  const user = uid === true ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const argv = ['netns', 'exec', mesh.row(workload).netns as string, ...user, process.execPath];
  const child = spawn('ip', [...argv, '--input-type=module', '-e', source], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

export const spoken = (child: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`exit ${code} before it said anything`)));
  });
