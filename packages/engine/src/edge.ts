/** What a request's head may hold when it comes from outside, and what the gateway says about where it came from. */
import { parseIp } from '@weft/base';
import { ForwardClientCert } from '@weft/plan';

const CLIENT_CERT = 'x-forwarded-client-cert';

/**
 * Changes a head in place. Fields that mean something only where a proxy of ours put them go: the mesh's (`x-weft-`, XFCC),
 * those that steer Envoy (`x-envoy-`) and Istio (`x-istio-`), and the request's id, which is made anew. The visitor's
 * address is appended to x-forwarded-for, and x-forwarded-proto and `:scheme` are what the connection is, unless proxies before
 * this one are trusted to say the first. `certificate` is what to say of the one that the visitor showed (''; none), and
 * `forward` whether that is said and whether what came in its place is kept: else XFCC goes.
 * False: a field name has a `_`, which applications may read as `-`.
 */
export function edgeHead(
  head: string[],
  remoteAddress: string,
  secure: boolean,
  trustedProxies: number,
  forward: ForwardClientCert = ForwardClientCert.UNSPECIFIED,
  certificate = '',
): boolean {
  let clean = true;
  let forwardedProto = '';
  let forwardedFor = '';
  let forwardedCert = '';
  let to = 0;
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    if (name.includes('_')) clean = false;
    if (name.charCodeAt(0) === 120 && name.charCodeAt(1) === 45) {
      if (name === 'x-forwarded-for') {
        forwardedFor = forwardedFor === '' ? head[i + 1] : `${forwardedFor}, ${head[i + 1]}`;
        continue;
      }
      if (name === 'x-forwarded-proto') {
        forwardedProto = head[i + 1];
        continue;
      }
      if (name === CLIENT_CERT) {
        forwardedCert = forwardedCert === '' ? head[i + 1] : `${forwardedCert},${head[i + 1]}`;
        continue;
      }
      if (isTrusted(name)) continue;
    }
    if (to !== i) {
      head[to] = name;
      head[to + 1] = head[i + 1];
    }
    to += 2;
  }
  head.length = to;
  const scheme = secure ? 'https' : 'http';
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2)
    if (head[i] === ':scheme') head[i + 1] = scheme;
  head.push('x-forwarded-for', forwardedFor === '' ? remoteAddress : `${forwardedFor}, ${remoteAddress}`);
  const toldProto = trustedProxies > 0 && (forwardedProto === 'http' || forwardedProto === 'https');
  head.push('x-forwarded-proto', toldProto ? forwardedProto : scheme);
  const told = clientCertificate(forward, forwardedCert, certificate);
  if (told !== '') head.push(CLIENT_CERT, told);
  return clean;
}

/** Who shows no certificate is believed nothing of others', unless the setting says always. '': no field. */
function clientCertificate(forward: ForwardClientCert, came: string, own: string): string {
  if (forward === ForwardClientCert.ALWAYS_FORWARD_ONLY) return came;
  if (own === '') return '';
  switch (forward) {
    case ForwardClientCert.FORWARD_ONLY:
      return came;
    case ForwardClientCert.APPEND_FORWARD:
      return came === '' ? own : `${came},${own}`;
    case ForwardClientCert.SANITIZE_SET:
      return own;
    default: // also what a newer control plane may say
      return '';
  }
}

/** Takes the same off the trailers of a stranger's request, and all that says where it came from; some applications join them. */
export function edgeTrailers(fields: string[]): void {
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    const name = fields[i].includes('_') ? fields[i].replaceAll('_', '-') : fields[i];
    if (isTrusted(name) || name.startsWith('x-forwarded-') || name === 'forwarded') fields.splice(i, 2);
  }
}

function isTrusted(name: string): boolean {
  return (
    name === 'x-request-id' ||
    name === CLIENT_CERT ||
    name.startsWith('x-weft-') ||
    name.startsWith('x-envoy-') ||
    name.startsWith('x-istio-')
  );
}

/**
 * The visitor's address where the last `trustedProxies` entries that came in x-forwarded-for were appended by proxies that
 * are trusted: the one before which nothing is. The peer's address where there are fewer, or where it is no address.
 */
export function visitorAddress(head: readonly string[], remoteAddress: string, trustedProxies: number): string {
  if (trustedProxies === 0) return remoteAddress;
  let left = trustedProxies;
  for (let i = head.length - 2; i >= 0; i -= 2) {
    if (head[i] !== 'x-forwarded-for') continue;
    const entries = head[i + 1].split(',');
    if (entries.length < left) {
      left -= entries.length;
      continue;
    }
    const address = entries[entries.length - left].trim();
    return parseIp(address) ? address : remoteAddress;
  }
  return remoteAddress;
}
