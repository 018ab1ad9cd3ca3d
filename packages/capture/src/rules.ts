/**
 * The nftables ruleset of one workload's network namespace. It stays when the proxy dies, so that capture fails closed:
 * a redirected connection then meets a closed port.
 */

/** The uid of the sidecar, which is exempt from redirection (Istio's number). */
export const PROXY_UID = 1337;
/** The mark on the sockets of proxies that do not run as PROXY_UID (Istio's number). */
export const PROXY_MARK = 0x539;

export interface CaptureRules {
  outboundPort?: number; // 15001
  inboundPort?: number; // 15006
  dnsPort?: number; // 15053
  /** Inbound TCP ports that reach their listener directly. */
  exemptInbound?: readonly number[];
  /** False leaves all but TCP and DNS alone; by default it is rejected (but ICMP), since it would leave in plaintext. */
  captureUdp?: boolean;
  /** What is left alone; by default nothing is. */
  scope?: Partial<RedirectScope>;
}

interface Ports {
  readonly first: number;
  readonly last: number;
}

type Family = 'ip' | 'ip6';

/** The shape of the model's CaptureScope: an `include` list that is undefined means everything. */
export interface RedirectScope {
  readonly includeOutboundRanges: readonly string[] | undefined;
  readonly excludeOutboundRanges: readonly string[];
  readonly includeOutboundPorts: readonly Ports[];
  readonly excludeOutboundPorts: readonly Ports[];
  readonly includeInboundPorts: readonly Ports[] | undefined;
  readonly excludeInboundPorts: readonly Ports[];
  readonly excludeInterfaces: readonly string[];
}

/** A match for each entry: a set would be refused where two of them overlap. */
function portMatches(ports: readonly Ports[] | undefined): string[] {
  return ports?.map((p) => `tcp dport ${p.first === p.last ? p.first : `${p.first}-${p.last}`}`) ?? [];
}
/** Those of the family alone: the other one's table has the others. */
function rangeMatches(ranges: readonly string[] | undefined, family: Family): string[] {
  const own = ranges?.filter((r) => r.includes(':') === (family === 'ip6')) ?? [];
  return own.map((r) => `meta l4proto tcp ${family} daddr ${r}`);
}

/** Lines of a chain. */
function lines(matches: readonly string[], verdict: string): string {
  return matches.map((match) => `    ${match} ${verdict}\n`).join('');
}

/**
 * The text for `nft -f -`: the same for IPv4 and IPv6. `-100` is the priority called dstnat; Debian 12's nft refuses the
 * name in an output chain.
 */
export function captureRules(rules: CaptureRules = {}): string {
  return table('ip', rules) + table('ip6', rules);
}

/**
 * Replies and the last packets of closed sockets carry no uid, so filters look only at connections that are new.
 * ICMPv6 passes: without neighbour discovery IPv6 has no neighbours.
 */
function table(family: Family, rules: CaptureRules): string {
  const outbound = rules.outboundPort ?? 15001;
  const inbound = rules.inboundPort ?? 15006;
  const dns = rules.dnsPort ?? 15053;
  const exempt = (rules.exemptInbound ?? [15008, 15020, 15021, 15090]).join(', ');
  const udp = rules.captureUdp ?? true;
  const scope = rules.scope ?? {};
  const interfaces = scope.excludeInterfaces ?? [];
  const out = interfaces.map((name) => `oifname "${name}"`);
  const into = interfaces.map((name) => `iifname "${name}"`);
  const leftOutRanges = rangeMatches(scope.excludeOutboundRanges, family);
  const leftOut = [...out, ...portMatches(scope.excludeOutboundPorts), ...leftOutRanges];
  const takenPorts = portMatches(scope.includeOutboundPorts);
  const ranges = scope.includeOutboundRanges;
  const takenOut = ranges === undefined ? ['meta l4proto tcp'] : rangeMatches(ranges, family);
  const leftIn = [...into, ...portMatches(scope.excludeInboundPorts)];
  const listed = scope.includeInboundPorts;
  const takenIn = listed === undefined ? ['meta l4proto tcp'] : portMatches(listed);
  // What was redirected has another destination by the time the filters see it: what is new there was left alone.
  const passOut = ranges === undefined ? leftOut : [...leftOut, 'meta l4proto tcp'];
  const passIn = listed === undefined ? leftIn : [...leftIn, 'meta l4proto tcp'];
  const loopback = family === 'ip' ? '127.0.0.0/8' : '::1';
  const unreachable = family === 'ip' ? 'icmp type port-unreachable' : 'icmpv6 type port-unreachable';
  const icmp = family === 'ip' ? 'icmp' : 'ipv6-icmp';
  // Whatever else the kernel speaks (SCTP, DCCP, UDP-Lite) would leave in plaintext too.
  const rejectOthers = udp ? `    meta l4proto != { tcp, ${icmp} } reject with ${unreachable}\n` : '';
  return `table ${family} weft {
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid ${PROXY_UID} return
    meta mark ${PROXY_MARK} return
    udp dport 53 redirect to :${dns}
    tcp dport 53 redirect to :${dns}
    oifname "lo" return
${lines(leftOut, 'return')}${lines(takenPorts, `redirect to :${outbound}`)}${lines(takenOut, `redirect to :${outbound}`)}  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname "lo" return
    tcp dport { ${exempt} } return
${lines(leftIn, 'return')}${lines(takenIn, `redirect to :${inbound}`)}  }
  chain leaving {
    type filter hook output priority 0; policy accept;
    ct state established,related accept
    meta skuid ${PROXY_UID} accept
    meta mark ${PROXY_MARK} accept
    ${family} daddr ${loopback} accept
    oifname "lo" accept
${lines(passOut, 'accept')}    ct state new meta l4proto tcp reject with tcp reset
${rejectOthers}  }
  chain entering {
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    ct state established,related accept
${lines(passIn, 'accept')}    ct state new meta l4proto tcp tcp dport != { ${exempt}, ${inbound} } reject with tcp reset
${rejectOthers}  }
}
`;
}
