/** What a policy is attached to, in the place of a selector (`targetRefs`). */
import type { PolicyTargetModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import { type FieldReport, nonEmpty, type Plain } from './common.ts';

const GATEWAY_API = 'gateway.networking.k8s.io';
const KINDS: readonly { readonly group: string; readonly kind: PolicyTargetModel['kind'] }[] = [
  { group: GATEWAY_API, kind: 'Gateway' },
  { group: GATEWAY_API, kind: 'GatewayClass' },
  { group: '', kind: 'Service' },
];

const target: ObjectSchema = {
  t: 'object',
  fields: { group: { t: 'string' }, kind: nonEmpty, name: nonEmpty, namespace: nonEmpty },
  required: ['kind', 'name'],
};

export const targetFields: Readonly<Record<'targetRef' | 'targetRefs', Schema>> = {
  targetRef: target,
  targetRefs: { t: 'list', of: target, min: 1, max: 16 },
};

/** `rootNamespace` is judged where the whole mesh is known. */
export function targetsOf(spec: Plain, namespace: string, report: FieldReport): PolicyTargetModel[] {
  const one = spec.targetRef as Plain | undefined;
  const list: [string, Plain | undefined][] = ((spec.targetRefs ?? []) as (Plain | undefined)[]).map((t, i) => [
    `spec.targetRefs[${i}]`,
    t,
  ]);
  if (one) list.unshift(['spec.targetRef', one]);
  if (one && spec.targetRefs) report('WEFT-VALUE', 'either targetRef or targetRefs, not both', 'spec.targetRef');
  if (list.length > 0 && spec.selector) {
    report('WEFT-VALUE', 'a policy has a selector or targets, not both', 'spec.selector');
  }
  return list.flatMap(([field, t]) => {
    if (!t?.kind || !t.name) return [];
    const group = t.group === 'core' ? '' : (t.group ?? '');
    const kind = KINDS.find((k) => k.kind === t.kind && k.group === group)?.kind;
    if (!kind) {
      const what = `a target is a Service (group ""), a Gateway or a GatewayClass (group ${GATEWAY_API}), not a ${t.kind} of "${group}"`;
      report('WEFT-VALUE', what, `${field}.kind`);
      return [];
    }
    if (t.namespace !== undefined && t.namespace !== namespace) {
      report('WEFT-VALUE', "a target is of the policy's own namespace", `${field}.namespace`);
      return [];
    }
    return [{ field, kind, name: t.name as string }];
  });
}
