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
  /** False leaves UDP other than DNS alone; by default it is rejected, since it would leave in plaintext. */
  captureUdp?: boolean;
}

/**
 * The text for `nft -f -`. `-100` is the priority called dstnat; Debian 12's nft refuses the name in an output chain.
 * Replies and the last packets of closed sockets carry no uid, so filters look only at connections that are new.
 */
export function captureRules(rules: CaptureRules = {}): string {
  const outbound = rules.outboundPort ?? 15001;
  const inbound = rules.inboundPort ?? 15006;
  const dns = rules.dnsPort ?? 15053;
  const exempt = (rules.exemptInbound ?? [15008, 15020, 15021, 15090]).join(', ');
  const udp = rules.captureUdp ?? true;
  return `table ip weft {
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid ${PROXY_UID} return
    meta mark ${PROXY_MARK} return
    udp dport 53 redirect to :${dns}
    tcp dport 53 redirect to :${dns}
    oifname "lo" return
    meta l4proto tcp redirect to :${outbound}
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname "lo" return
    tcp dport { ${exempt} } return
    meta l4proto tcp redirect to :${inbound}
  }
  chain leaving {
    type filter hook output priority 0; policy accept;
    ct state established,related accept
    meta skuid ${PROXY_UID} accept
    meta mark ${PROXY_MARK} accept
    ip daddr 127.0.0.0/8 accept
    oifname "lo" accept
    ct state new meta l4proto tcp reject with tcp reset
${udp ? '    meta l4proto udp reject with icmp type port-unreachable\n' : ''}  }
  chain entering {
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    ct state established,related accept
    ct state new meta l4proto tcp tcp dport != { ${exempt}, ${inbound} } reject with tcp reset
${udp ? '    meta l4proto udp reject with icmp type port-unreachable\n' : ''}  }
}
table ip6 weft {
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid ${PROXY_UID} return
    meta mark ${PROXY_MARK} return
    udp dport 53 redirect to :${dns}
    tcp dport 53 redirect to :${dns}
  }
  chain leaving {
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    ip6 daddr ::1 accept
    meta l4proto ipv6-icmp accept
    drop
  }
  chain entering {
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    meta l4proto ipv6-icmp accept
    drop
  }
}
`;
}
