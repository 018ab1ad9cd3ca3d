/** An external authorizer that is asked by gRPC (`envoyExtAuthzGrpc`): envoy.service.auth.v3.Authorization/Check. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type CheckHeader,
  type CheckHeaderOption,
  CheckHeaderSchema,
  CheckRequestSchema,
  type CheckResponse,
  CheckResponseSchema,
  type ExternalAuthorizer,
} from '@weft/plan';
import type { Head } from '@weft/wire';
import { field } from '../http/headers.ts';
import { grpcCallHead, grpcMessage, grpcStatusOf } from '../net/grpc-unary.ts';
import type { SideAnswer } from '../outbound/side-call.ts';
import type { Checked } from './check.ts';
import { type CheckOutcome, type HeaderChange, isHeader, mayChange } from './outcome.ts';

export function grpcCheckHead({ authority, timeoutMs }: ExternalAuthorizer): Head {
  return grpcCallHead(authority, '/envoy.service.auth.v3.Authorization/Check', timeoutMs);
}

export function grpcCheckBody(authorizer: ExternalAuthorizer, checked: Checked): Uint8Array {
  const peer = (address: string, portValue: number, principal: string) => ({
    address: { socketAddress: { address, portValue } },
    principal: principal === '' || principal.startsWith('spiffe://') ? principal : `spiffe://${principal}`,
  });
  const { wallMs } = checked;
  const message = create(CheckRequestSchema, {
    attributes: {
      source: peer(checked.remoteIp, checked.remotePort, checked.principal),
      destination: peer(checked.localIp, checked.localPort, checked.ownPrincipal),
      request: {
        time: { seconds: BigInt(Math.floor(wallMs / 1000)), nanos: (wallMs % 1000) * 1_000_000 },
        ...(checked.http && { http: httpOf(authorizer, checked) }),
      },
      ...(checked.sni !== '' && { tlsSession: { sni: checked.sni } }),
    },
  });
  return grpcMessage(toBinary(CheckRequestSchema, message));
}

function httpOf(authorizer: ExternalAuthorizer, checked: Checked) {
  const length = field(checked.head, 'content-length');
  return {
    id: checked.requestId,
    method: checked.method,
    headers: headersOf(checked),
    ...{ path: checked.path, host: checked.authority, scheme: field(checked.head, ':scheme') ?? 'http' },
    size: length !== undefined && /^\d{1,15}$/.test(length) ? BigInt(length) : BigInt(checked.size),
    protocol: checked.httpVersion,
    ...(authorizer.bodyAsBytes
      ? { rawBody: checked.body }
      : { body: Buffer.from(checked.body.buffer, checked.body.byteOffset, checked.body.length).toString('utf8') }),
  };
}

/** Fields of one name are one, as a list: an authorizer that looks a name up sees all of them. */
function headersOf(checked: Checked): CheckHeader[] {
  const joined = new Map<string, string>();
  const { head } = checked;
  for (let i = 0; i < head.length; i += 2) {
    const before = joined.get(head[i]);
    joined.set(head[i], before === undefined ? head[i + 1] : `${before},${head[i + 1]}`);
  }
  joined.delete(':protocol');
  joined.set(':method', checked.method);
  if (checked.bodyAsked) joined.set('x-envoy-auth-partial-body', String(checked.partial));
  return [...joined].map(([key, value]) => create(CheckHeaderSchema, { key, value }));
}

export function grpcOutcome(answer: SideAnswer): CheckOutcome {
  const error = (why: string): CheckOutcome => ({ kind: 'error', why });
  if (answer.status !== 200) return error(`answered_${answer.status}`);
  const code = grpcStatusOf(answer.head, answer.trailers);
  if (code !== '0') return error(`grpc_status_${/^\d{1,3}$/.test(code ?? '') ? code : 'none'}`);
  const { body } = answer;
  if (body.length < 5 || body[0] !== 0 || body.readUInt32BE(1) !== body.length - 5) return error('no_message');
  let said: CheckResponse;
  try {
    said = fromBinary(CheckResponseSchema, body.subarray(5));
  } catch {
    return error('message_malformed');
  }
  // Without a status there is no yes: an empty message is not one.
  if (!said.status) return error('no_status');
  if (said.status.code === 0) {
    if (said.httpResponse.case === 'deniedResponse') return error('answer_contradicts_itself');
    return said.httpResponse.case === 'okResponse' ? allowed(said.httpResponse.value) : ALLOW;
  }
  const denied = said.httpResponse.case === 'deniedResponse' ? said.httpResponse.value : undefined;
  const headers: Head = [];
  for (const option of denied?.headers ?? []) {
    const { name, value } = textOf(option);
    if (isHeader(name, value)) headers.push(name, value);
  }
  const status = denied?.status?.code ?? 0;
  return {
    kind: 'deny',
    status: status >= 200 && status <= 599 ? status : 403,
    headers,
    body: Buffer.from(denied?.body ?? ''),
  };
}

const ALLOW: CheckOutcome = { kind: 'allow', changes: [], remove: [], params: [], dropParams: [], response: [] };

function allowed(ok: Extract<CheckResponse['httpResponse'], { case: 'okResponse' }>['value']): CheckOutcome {
  const changes: HeaderChange[] = [];
  for (const option of ok.headers) {
    const { name, value } = textOf(option);
    // The request would not be what it said yes to: no answer at all, rather than a part of one.
    if (!isHeader(name, value)) return { kind: 'error', why: 'header_not_allowed' };
    changes.push({ name, value, how: howOf(option) });
  }
  const remove = ok.headersToRemove.map((name) => name.toLowerCase());
  if (!remove.every(mayChange)) return { kind: 'error', why: 'header_not_allowed' };
  const response: Head = [];
  for (const option of ok.responseHeadersToAdd) {
    const { name, value } = textOf(option);
    if (isHeader(name, value)) response.push(name, value);
  }
  return {
    ...{ kind: 'allow', changes, remove, response },
    params: ok.queryParametersToSet.map((p) => [p.key, p.value] as const),
    dropParams: ok.queryParametersToRemove,
  };
}

function howOf(option: CheckHeaderOption): HeaderChange['how'] {
  if (option.append) return option.append.value ? 'append' : 'set';
  if (option.appendAction === 1) return 'add_if_absent';
  return option.appendAction === 3 ? 'overwrite_if_there' : 'set';
}

function textOf(option: CheckHeaderOption): { name: string; value: string } {
  const { key = '', value = '', rawValue } = option.header ?? {};
  const text = rawValue && rawValue.length > 0 ? Buffer.from(rawValue).toString('latin1') : value;
  // Blanks around a value are no part of it (RFC 9110 5.5).
  return { name: key.toLowerCase(), value: text.trim() };
}
