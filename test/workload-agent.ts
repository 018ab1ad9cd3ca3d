/** Somebody else's SPIFFE agent, as SPIRE's: tells who calls by the kernel, and gives each proxy the certificate of its own workload. */
import { createPrivateKey } from 'node:crypto';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttp2 } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { peerCredentials } from '@weft/capture';
import { type Authority, createAuthority, createKeyAndCsr, parseCertificates } from '@weft/identity';
import { SpiffeWorkloadAPI, X509BundlesResponseSchema, X509SVIDResponseSchema } from '@weft/plan';
import { grpcHandler } from '@weft/xds';

const der = (pem: string): Uint8Array<ArrayBuffer> =>
  new Uint8Array(Buffer.concat(parseCertificates(pem).map((c) => c.raw)));

/** Which workload's proxy a process is: what it was started with says it, in a file that others cannot write. */
function workloadOf(pid: number): string {
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  const path = environment.find((e) => e.startsWith('WEFT_BOOTSTRAP='))?.slice('WEFT_BOOTSTRAP='.length);
  return path ? (JSON.parse(readFileSync(path, 'utf8')) as { spiffeId: string }).spiffeId : '';
}

export interface WorkloadAgent {
  socket: string;
  authority: Authority;
  /** Ids that were given out. */
  given: string[];
  close(): void;
}

export async function startWorkloadAgent(dir: string): Promise<WorkloadAgent> {
  const authority = await createAuthority({ dir: join(dir, 'agent-ca'), trustDomain: 'cluster.local' });
  const given: string[] = [];
  const serve = (socket: Socket): void => {
    const { pid } = peerCredentials(socket);
    const h2 = createHttp2(
      grpcHandler({
        readMaxBytes: 65_536,
        routes: (router) =>
          router.service(SpiffeWorkloadAPI, {
            async *fetchX509SVID() {
              const spiffeId = workloadOf(pid);
              if (spiffeId === '') throw new ConnectError('no identity issued', Code.PermissionDenied);
              const { keyPem, csrPem } = await createKeyAndCsr(spiffeId);
              const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 });
              given.push(spiffeId);
              const x509SvidKey = new Uint8Array(createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' }));
              const svid = { spiffeId, x509Svid: der(chainPem), x509SvidKey, bundle: der(rootPem) };
              yield create(X509SVIDResponseSchema, { svids: [svid] });
            },
            async *fetchX509Bundles() {
              yield create(X509BundlesResponseSchema, {
                bundles: { 'spiffe://cluster.local': der(authority.rootPem) },
              });
            },
          }),
      }),
    );
    h2.on('sessionError', () => {});
    h2.emit('connection', socket);
  };
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket.on('error', () => {}).on('close', () => open.delete(socket)));
    try {
      serve(socket);
    } catch {
      socket.destroy();
    }
  });
  const socket = join(dir, 'agent.sock');
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socket, resolve));
  // Anybody may ask: who gets what is by who asks.
  chmodSync(socket, 0o777);
  const close = (): void => {
    server.close();
    for (const one of open) one.destroy();
    rmSync(socket, { force: true });
  };
  return { socket, authority, given, close };
}
