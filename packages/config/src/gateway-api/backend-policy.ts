/** BackendLBPolicy, and XBackendTrafficPolicy, which took its place: sessions and retries of a service's clients. */
import type { BackendPolicyModel } from '@weft/model';
import { type Kind, nonEmpty, type Plain, str } from '../kinds/common.ts';
import type { ObjectSchema } from '../schema.ts';
import { gepDuration, objectName, versions } from './common.ts';
import { sessionOf, sessionPersistence } from './session.ts';

const fields: ObjectSchema['fields'] = {
  targetRefs: {
    t: 'list',
    min: 1,
    max: 16,
    of: {
      t: 'object',
      fields: { group: str, kind: nonEmpty, name: objectName },
      required: ['group', 'kind', 'name'],
    },
  },
  sessionPersistence,
};

const retryConstraint: ObjectSchema = {
  t: 'object',
  fields: {
    budget: { t: 'object', fields: { percent: { t: 'int', min: 0, max: 100 }, interval: gepDuration } },
    minRetryRate: { t: 'object', fields: { count: { t: 'int', min: 1, max: 1_000_000 }, interval: gepDuration } },
  },
};

function policyKind(kind: string, apiVersions: string[], more: ObjectSchema['fields']): Kind<BackendPolicyModel> {
  return {
    kind,
    apiVersions,
    spec: { t: 'object', fields: { ...fields, ...more }, required: ['targetRefs'] },
    specRequired: true,
    build(resource, spec, report, context) {
      const targets = ((spec.targetRefs ?? []) as (Plain | undefined)[]).flatMap((t, i) => {
        if (!t?.name) return [];
        const field = `spec.targetRefs[${i}]`;
        if (t.group === '' && t.kind === 'Service') return [{ field, name: t.name as string }];
        report('WEFT-VALUE', `a target is a Service (group ""), not a ${t.kind} of "${t.group}"`, `${field}.kind`);
        return [];
      });
      const { budget, minRetryRate } = (spec.retryConstraint ?? {}) as Plain;
      const noted = (field: string, why: string): void =>
        report('WEFT-NO-EFFECT', `has no effect: ${why}`, `spec.retryConstraint.${field}`, 'warning');
      if (budget?.interval !== undefined) noted('budget.interval', 'the part is of the requests that run at a time');
      if (minRetryRate) noted('minRetryRate', 'three retries at once are always allowed');
      return {
        ...resource,
        created: context.created,
        targets,
        session: sessionOf(spec.sessionPersistence, resource, 'spec', 0, report),
        retryPercent: spec.retryConstraint ? (budget?.percent ?? 20) : undefined,
      };
    },
  };
}

export const backendPolicyKinds = [
  policyKind('BackendLBPolicy', versions('v1alpha2'), {}),
  policyKind('XBackendTrafficPolicy', ['gateway.networking.x-k8s.io/v1alpha1'], { retryConstraint }),
];
