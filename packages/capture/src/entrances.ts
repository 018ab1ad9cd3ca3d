/** Firewall rules by which the ports of a proxy are the only way into a network namespace, or into a host. */

export interface Entrances {
  /** TCP ports that are open to all: the mesh port, or what a gateway serves. */
  open: readonly number[];
  /** TCP ports that are open to these addresses and ranges alone. */
  restricted?: { ports: readonly number[]; from: readonly string[] };
}

/**
 * Text for `nft -f -`, which takes the place of what an earlier one set. It looks at packets before capture redirects them,
 * so that it holds with capture's rules and without them. ICMP stays: without it neither path MTU discovery nor IPv6's
 * neighbours work. What the workload itself asks for is answered, and what it says to itself is its own business.
 */
export function entranceRules({ open, restricted }: Entrances): string {
  const lines = [
    'iifname "lo" accept',
    'ct state established,related accept',
    'meta l4proto { icmp, ipv6-icmp } accept',
  ];
  if (open.length > 0) lines.push(`tcp dport { ${open.join(', ')} } accept`);
  for (const range of restricted?.from ?? []) {
    const family = range.includes(':') ? 'ip6' : 'ip';
    lines.push(`${family} saddr ${range} tcp dport { ${restricted?.ports.join(', ')} } accept`);
  }
  lines.push('counter drop');
  return `table inet weft-entrances
delete table inet weft-entrances
table inet weft-entrances {
  chain entering {
    type filter hook prerouting priority -150; policy accept;
${lines.map((line) => `    ${line}\n`).join('')}  }
}
`;
}
