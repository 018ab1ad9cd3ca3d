/** `weft.dev/v1alpha1 DecisionHeader`: callers that are told, by `x-weft-decision`, which rules decided of their requests. */
import type { DecisionHeaderModel } from '@weft/model';
import type { Kind } from './common.ts';

function checkCaller(value: string): string | undefined {
  if (value.startsWith('spiffe://')) return 'principals are written without "spiffe://": cluster.local/ns/NS/sa/SA';
  if (value === '*' || /^[^*\s]+\/ns\/[^*\s]+\/sa\/[^*\s]+$/.test(value) || /^[^*\s]+\/ns\/[^*\s]+\*$/.test(value))
    return undefined;
  return 'a caller is cluster.local/ns/NS/sa/SA, cluster.local/ns/NS/* or * (whoever proves an identity)';
}

export const decisionHeaderKind: Kind<DecisionHeaderModel> = {
  kind: 'DecisionHeader',
  apiVersions: ['weft.dev/v1alpha1'],
  spec: {
    t: 'object',
    fields: { callers: { t: 'list', of: { t: 'string', check: checkCaller }, min: 1, max: 1000 } },
    required: ['callers'],
  },
  specRequired: true,
  build: (resource, spec) => ({ ...resource, callers: spec.callers ?? [] }),
};
