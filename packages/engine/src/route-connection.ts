/** Which route a connection takes that carries no requests. */
import { inBlock, parseIp, type Random } from '@weft/base';
import type { CompiledTcpRoute } from './compile.ts';
import { clusterOf, draw } from './route-destination.ts';
import type { ClusterView, TcpRouteView } from './views.ts';

export interface TcpDecision {
  readonly clusterName: string;
  readonly cluster: ClusterView | undefined;
  readonly ref: string;
  readonly destinationRef: string;
}

/**
 * The destination of a connection: the first TCP route for the address that was dialled (where a name was, the service's
 * first). Undefined: the port has none.
 */
export function routeTcp(view: TcpRouteView, random: Random, dialled = ''): TcpDecision | undefined {
  const route = view.tcp.find((r) => isFor(r, view, dialled));
  const destination = route && draw(route.split, random);
  if (!destination) return undefined;
  return {
    clusterName: destination.clusterName,
    cluster: clusterOf(view, destination.clusterName),
    ref: route.ref,
    destinationRef: destination.ref,
  };
}

/**
 * The destination of a connection that begins with TLS, by the name its client asks for ('' where it names none), where
 * the port has routes for names. Undefined: no route covers the name.
 */
export function routeTls(
  view: TcpRouteView,
  serverName: string,
  random: Random,
  dialled = '',
): TcpDecision | undefined {
  const name = serverName.toLowerCase();
  const covers = (sni: string): boolean =>
    sni === '*' || sni === name || (sni.startsWith('*.') && name.endsWith(sni.slice(1)) && name.length >= sni.length);
  const route = view.tls.find((r) => covers(r.sni) && isFor(r, view, dialled));
  const destination = route && draw(route.split, random);
  if (!destination) return undefined;
  const { clusterName, ref } = destination;
  return { clusterName, cluster: clusterOf(view, clusterName), ref: route.ref, destinationRef: ref };
}

function isFor({ subnets }: CompiledTcpRoute, { service }: TcpRouteView, dialled: string): boolean {
  if (subnets.length === 0) return true;
  const ip = parseIp(dialled) ?? parseIp(service?.addresses[0] ?? '');
  return ip !== undefined && subnets.some((block) => inBlock(ip, block));
}
