/** What protocol a port speaks, as Kubernetes and Istio let people say it. */
import { Protocol, serverFirst } from '@weft/plan';
import type { PortProtocol } from './types/service.ts';

const BY_NAME = new Map<string, PortProtocol>([
  ['http', 'http'],
  ['http1', 'http'],
  ['http2', 'http2'],
  ['h2c', 'http2'],
  ['kubernetes.io/h2c', 'http2'],
  ['grpc', 'grpc'],
  ['grpc-web', 'grpc-web'],
  ['ws', 'http'],
  ['kubernetes.io/ws', 'http'],
  ['tcp', 'tcp'],
  ['mysql', 'tcp'],
  ['mongo', 'tcp'],
  ['redis', 'tcp'],
  ['tls', 'tls'],
  ['https', 'tls'],
  ['kubernetes.io/wss', 'tls'],
]);

/** What an `appProtocol`, or what stands before the first dash of a port's name, says; undefined: nothing that is known. */
export function protocolNamed(word: string): PortProtocol | undefined {
  return BY_NAME.get(word.toLowerCase());
}

/**
 * `appProtocol` decides, else the port's name (`http` or `http-anything`), else the list of server-first ports; what
 * is left is detected on bytes.
 */
export function portProtocol(appProtocol: string | undefined, name: string | undefined, port: number): PortProtocol {
  if (appProtocol) {
    const said = BY_NAME.get(appProtocol.toLowerCase());
    if (said) return said;
  }
  if (name) {
    const lower = name.toLowerCase();
    // grpc-web is the one protocol with a dash in its name
    const prefix = lower === 'grpc-web' || lower.startsWith('grpc-web-') ? 'grpc-web' : lower.split('-', 1)[0];
    const said = BY_NAME.get(prefix);
    if (said) return said;
  }
  return serverFirst(port) ? 'tcp' : 'detect';
}

const PLAN: Record<PortProtocol, Protocol> = {
  detect: Protocol.UNSPECIFIED,
  http: Protocol.HTTP,
  http2: Protocol.HTTP2,
  grpc: Protocol.GRPC,
  'grpc-web': Protocol.GRPC_WEB,
  tcp: Protocol.TCP,
  tls: Protocol.TLS,
};

export function planProtocol(protocol: PortProtocol): Protocol {
  return PLAN[protocol];
}

export function mayCarryHttp(protocol: PortProtocol): boolean {
  return protocol !== 'tcp' && protocol !== 'tls';
}
