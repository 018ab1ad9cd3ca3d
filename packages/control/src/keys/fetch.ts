/**
 * Reads a document at an address that somebody wrote into the configuration. Who may write that must not be able to make
 * the control plane ask what only it can reach (SSRF): addresses that are not public are refused, also where a name leads
 * to one, and the connection goes to the very address that was judged. Redirects are not followed.
 */
import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { parseIpBlock, WeftError } from '@weft/base';

export interface FetchLimits {
  /** Blocks of addresses (CIDR) that may be asked though they are not public. */
  readonly allow: readonly string[];
  readonly maxBytes: number;
}

/** Everything that is not the open internet: RFC 6890's special blocks, and what IPv6 maps to them. */
const SPECIAL: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[] = [
  ...[
    ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
    ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
    ...['224.0.0.0/4', '240.0.0.0/4'],
  ].map((block) => [block.split('/')[0], Number(block.split('/')[1]), 'ipv4'] as const),
  ...['::/96', '64:ff9b::/96', '64:ff9b:1::/48', '100::/64', '2001::/23', '2001:db8::/32', '2002::/16', 'fc00::/7']
    .concat(['fe80::/10', 'fec0::/10', 'ff00::/8'])
    .map((block) => [block.split('/')[0], Number(block.split('/')[1]), 'ipv6'] as const),
];

const special = new BlockList();
for (const [address, prefix, family] of SPECIAL) special.addSubnet(address, prefix, family);

/** Throws WeftError `control/jwks-allow` where one is no block of addresses. */
export function allowedBlocks(blocks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const block of blocks) {
    const [address, prefix] = block.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (!parseIpBlock(block) || isIP(address) === 0) {
      throw new WeftError('control/jwks-allow', `"${block}" is no block of addresses such as 10.0.0.0/8`);
    }
    list.addSubnet(address, prefix === undefined ? (family === 'ipv6' ? 128 : 32) : Number(prefix), family);
  }
  return list;
}

/** `::ffff:10.0.0.1` is 10.0.0.1. */
function plain(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1];
  const hex = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(address);
  if (!hex) return address;
  const high = Number.parseInt(hex[1], 16);
  const low = Number.parseInt(hex[2], 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** Whether the address may be asked. */
export function mayAsk(raw: string, allow: BlockList): boolean {
  const address = plain(raw);
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  return isIP(address) !== 0 && (allow.check(address, family) || !special.check(address, family));
}

type Resolve = (host: string) => Promise<LookupAddress[]>;

const systemResolve: Resolve = (host) =>
  new Promise((resolve, reject) => {
    dnsLookup(host, { all: true }, (error, found) => (error ? reject(error) : resolve(found)));
  });

/** The body of the answer, which must be a 200. Throws an Error that says what was wrong. `resolve` is for tests. */
export async function fetchDocument(
  address: string,
  timeoutMs: number,
  limits: FetchLimits,
  resolve: Resolve = systemResolve,
): Promise<string> {
  const url = new URL(address);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Error(`${url.protocol} is not asked`);
  if (url.username !== '' || url.password !== '') throw new Error('an address with a password is not asked');
  const allow = allowedBlocks(limits.allow);
  const bare = url.hostname.replace(/^\[|\]$/g, '');
  const refuse = (ip: string): Error =>
    new Error(`${bare === ip ? ip : `${bare} is ${ip}, which`} is not public and not among the allowed addresses`);
  const deadline = Date.now() + timeoutMs;
  const signal = AbortSignal.timeout(timeoutMs);
  const late = new Promise<never>((_ok, reject) => {
    signal.addEventListener('abort', () => reject(new Error(`no answer within ${timeoutMs} ms`)), { once: true });
  });
  late.catch(() => {});
  const found = isIP(bare) ? [{ address: bare, family: isIP(bare) }] : await Promise.race([resolve(bare), late]);
  // All of them: who answers with a public and a private address means the private one.
  for (const { address: ip } of found) if (!mayAsk(ip, allow)) throw refuse(ip);
  if (found.length === 0) throw new Error(`${bare} has no address`);
  if (Date.now() >= deadline) throw new Error(`no answer within ${timeoutMs} ms`);
  const lookup: LookupFunction = (_host, options, told) => {
    if (options.all) told(null, found);
    else told(null, found[0].address, found[0].family);
  };
  return await new Promise((ok, reject) => {
    const make = url.protocol === 'https:' ? https.request : http.request;
    const request = make(url, { lookup, signal, agent: false, headers: { accept: 'application/json' } }, (response) => {
      const fail = (why: string): void => {
        request.destroy();
        reject(new Error(why));
      };
      const { statusCode = 0 } = response;
      if (statusCode >= 300 && statusCode < 400) return fail(`answered ${statusCode}: redirects are not followed`);
      if (statusCode !== 200) return fail(`answered ${statusCode}`);
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > limits.maxBytes) fail(`the answer is longer than ${limits.maxBytes} bytes`);
        else chunks.push(chunk);
      });
      response.on('end', () => ok(Buffer.concat(chunks).toString('utf8')));
      response.on('error', reject);
      response.on('aborted', () => reject(new Error('the answer broke off')));
    });
    request.on('error', (error) => reject(signal.aborted ? new Error(`no answer within ${timeoutMs} ms`) : error));
    request.end();
  });
}
