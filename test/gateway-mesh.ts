/**
 * A mesh with one gateway in front of one application, for tests of the edge and for suites that need "the edge": a port
 * that speaks HTTP/1.1 and HTTP/2 by prior knowledge, and one with TLS and ALPN.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { peers, TestMesh } from './harness.ts';

/** The name that the certificate of the HTTPS port is for; the ports answer to any other Host too. */
export const EDGE_NAME = 'edge.test';
export const EDGE_HTTP = 8080;
export const EDGE_HTTPS = 8443;

export interface GatewayMesh {
  readonly mesh: TestMesh;
  /** The gateway's IP address. */
  readonly address: string;
  /** Port of HTTP/1.1 and h2c. */
  readonly http: number;
  /** Port of TLS. */
  readonly https: number;
  /** PEM of the certificate that signed itself, to be trusted by clients. */
  readonly ca: string;
  close(): Promise<void>;
}

export interface GatewayMeshOptions {
  /** Further files of the mesh, before it starts; what is written as `gateway.yaml` or `services.yaml` replaces those made here. */
  prepare?(mesh: TestMesh): void;
}

/** A certificate for names, `<stem>.crt` and `<stem>.key` in `folder`. */
export function makeCertificate(folder: string, stem: string, names: readonly string[]): void {
  const san = names.map((n) => (/^[0-9.]+$/.test(n) ? `IP:${n}` : `DNS:${n}`)).join(',');
  const key = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    join(folder, `${stem}.key`),
  ];
  const subject = ['-subj', `/CN=${names[0]}`, '-addext', `subjectAltName=${san}`, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, '-out', join(folder, `${stem}.crt`)], { stdio: 'pipe' });
}

/** The Process of a gateway with a label that Gateways select, and its Service. */
export const INGRESS = `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ingress, namespace: shop, labels: {app: ingress, istio: ingressgateway}}
spec:
  gateway: {}
  serviceAccountName: ingress
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  ports:
    - {name: http, port: 80, targetPort: ${EDGE_HTTP}}
    - {name: https, port: 443, targetPort: ${EDGE_HTTPS}}
`;

const GATEWAY = `${INGRESS}---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: ["*"]
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: ["*"]
      tls: {mode: SIMPLE, serverCertificate: edge.crt, privateKey: edge.key}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
    - route: [{destination: {host: front}}]
`;

/** Starts it, ready to be asked; the caller closes it. The application is test/apps/peer.mjs, named front. */
export async function startGatewayMesh(
  capture: 'transparent' | 'explicit',
  options: GatewayMeshOptions = {},
): Promise<GatewayMesh> {
  const mesh = new TestMesh(capture);
  try {
    makeCertificate(mesh.folder, 'edge', [EDGE_NAME]);
    mesh.write('services.yaml', peers({ front: { v1: 1 } }));
    mesh.write('gateway.yaml', GATEWAY);
    options.prepare?.(mesh);
    mesh.start();
    await mesh.ready();
    return {
      mesh,
      address: mesh.row('ingress').address,
      http: EDGE_HTTP,
      https: EDGE_HTTPS,
      ca: readFileSync(join(mesh.folder, 'edge.crt'), 'utf8'),
      close: () => mesh.cleanUp(),
    };
  } catch (error) {
    await mesh.cleanUp();
    throw error;
  }
}
