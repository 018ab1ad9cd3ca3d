/**
 * What a proxy cannot read of who may call, and by which TLS: a field or a value that a newer control plane says and this schema does not
 * have, and parts of a kind of which it knows nothing. Read without them a rule could let in whom it was to keep out
 * (CVE-2022-21679), so such a plan is refused.
 */
import type { DescMessage, Message } from '@bufbuild/protobuf';
import {
  AuthorizationSchema,
  GatewayTlsSchema,
  InboundSchema,
  type Part,
  TlsSettingsSchema,
} from './gen/weft/plan/v1/plan_pb.js';

/**
 * Where it stands, e.g. `authorization.policies.action`; undefined where all is known, and for parts of a known kind that
 * let nobody in. What a part of an unknown kind would close nobody here can tell, so that it counts as one that does.
 */
export function unknownIn({ kind, $unknown }: Part): string | undefined {
  if (kind.case === undefined) return $unknown?.[0] ? `kind ${$unknown[0].no}` : 'no kind';
  if (kind.case === 'authorization') return walk(AuthorizationSchema, kind.value, kind.case);
  if (kind.case === 'gateway') {
    // Which certificates of clients a server takes, and which TLS. Of the rest an older proxy serves what it knows.
    for (const { tls } of kind.value.servers) {
      const found = tls && walk(GatewayTlsSchema, tls, 'gateway.servers.tls');
      if (found !== undefined) return found;
    }
  }
  if (kind.case === 'tls') return walk(TlsSettingsSchema, kind.value, kind.case);
  return kind.case === 'inbound' ? walk(InboundSchema, kind.value, kind.case) : undefined;
}

function walk(desc: DescMessage, message: Message, path: string): string | undefined {
  const [unknown] = message.$unknown ?? [];
  if (unknown) return `${path}: field ${unknown.no}`;
  const values = message as unknown as Readonly<Record<string, unknown>>;
  for (const f of desc.fields) {
    const chosen = f.oneof && (values[f.oneof.localName] as { case?: string; value?: unknown });
    const value = chosen ? (chosen.case === f.localName ? chosen.value : undefined) : values[f.localName];
    if (value === undefined) continue;
    const all =
      f.fieldKind === 'list' ? (value as unknown[]) : f.fieldKind === 'map' ? Object.values(value as object) : [value];
    const at = `${path}.${f.localName}`;
    for (const one of all) {
      if (f.message) {
        const found = walk(f.message, one as Message, at);
        if (found !== undefined) return found;
      } else if (f.enum && !f.enum.values.some((v) => v.number === one)) return `${at}: ${String(one)}`;
    }
  }
  return undefined;
}
